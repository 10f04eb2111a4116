# Whether all C++ is as .clang-format says: cmake -P tests/contracts/format.cmake, or with -DFIX=ON
# before -P to make it so. Versions of clang-format differ, so it takes the one that the code was
# formatted with (Debian: clang-format-19; pip: clang-format==19.1.7).
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
find_program(clang_format NAMES clang-format-19 clang-format)
set(version)
if(clang_format)
    execute_process(COMMAND "${clang_format}" --version OUTPUT_VARIABLE version)
endif()
if(NOT version MATCHES "version 19\\.")
    message("skipped: there is no clang-format 19")
    return()
endif()
file(GLOB_RECURSE files "${source}/include/*.hpp" "${source}/examples/*.[ch]pp"
    "${source}/tests/*.[ch]pp")
set(way --dry-run --Werror)
if(FIX)
    set(way -i)
endif()
execute_process(COMMAND "${clang_format}" ${way} ${files} RESULT_VARIABLE failed)
if(failed)
    message(FATAL_ERROR
        "Not formatted; cmake -DFIX=ON -P tests/contracts/format.cmake formats all files")
endif()
list(LENGTH files count)
message("${count} files, formatted by clang-format 19")
