# Whether clang-tidy has nothing to say about the headers:
#   cmake [-DWORK=directory] -P tests/contracts/tidy.cmake
# .clang-tidy at the top says what is checked. Versions differ, so this takes one (Debian:
# clang-tidy-19).
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
if(NOT WORK)
    set(WORK "${source}/build/tidy")
endif()
find_program(clang_tidy NAMES clang-tidy-19 clang-tidy)
set(version)
if(clang_tidy)
    execute_process(COMMAND "${clang_tidy}" --version OUTPUT_VARIABLE version)
endif()
if(NOT version MATCHES "version 19\\.")
    message("skipped: there is no clang-tidy 19")
    return()
endif()
file(GLOB_RECURSE headers RELATIVE "${source}/include" "${source}/include/*.hpp")
list(FILTER headers EXCLUDE REGEX "/os_(windows|posix)\\.hpp$")  # included by os_calls.hpp
set(text)
foreach(header IN LISTS headers)
    string(APPEND text "#include <${header}>\n")
endforeach()
file(WRITE "${WORK}/all_headers.cpp" "${text}")
execute_process(
    COMMAND "${clang_tidy}" --quiet "--config-file=${source}/.clang-tidy" "${WORK}/all_headers.cpp"
        -- -std=c++20 "-I${source}/include"
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE noise)
if(failed)
    message(FATAL_ERROR "${said}${noise}")
endif()
list(LENGTH headers count)
message("${count} headers, nothing to say")
