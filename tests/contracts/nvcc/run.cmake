# Compiles every header alone and every example program as a .cu file with warnings as errors, and
# runs one program that fuses: cmake -P tests/contracts/nvcc/run.cmake, from any directory. It needs
# nvcc 13 or later and a host compiler, and no GPU. Options stand before -P:
#   -DNVCC=…    the nvcc program; default: nvcc of the path, else that of PYTHON's package
#               nvidia-cuda-nvcc
#   -DPYTHON=…  default python3
#   -DWORK=…    default build/nvcc in the repository
#   -DJOBS=…    how many compilers at a time; default one for each core
#   -DONLY=…    regular expression: which headers and examples; default all
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
include("${source}/tests/support/tools.cmake")
if(NOT WORK)
    set(WORK "${source}/build/nvcc")
endif()
get_filename_component(WORK "${WORK}" ABSOLUTE)
if(NOT JOBS)
    cmake_host_system_information(RESULT JOBS QUERY NUMBER_OF_LOGICAL_CORES)
endif()

find_nvcc(nvcc version)
if(NOT nvcc)
    say("skipped: there is no nvcc 13 (pip: nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt"
        "nvidia-cuda-runtime nvidia-cuda-cccl)")
    return()
endif()

# The code that nvcc adds to a file causes warnings with -Wpedantic and -Wold-style-cast.
set(compile "${nvcc}" -x cu -std=c++20 "-I${source}/include" -Werror all-warnings
    -Xcompiler -Wall,-Wextra,-Wconversion,-Wsign-conversion,-Wshadow,-Werror)

file(WRITE "${WORK}/logged.sh" "log=$1\nshift\nexec \"$@\" >\"$log\" 2>&1\n")
file(GLOB_RECURSE headers RELATIVE "${source}/include" "${source}/include/*.hpp")
list(FILTER headers EXCLUDE REGEX "os_windows\\.hpp$")
file(GLOB examples RELATIVE "${source}" "${source}/examples/learn/*.cpp"
    "${source}/examples/programs/*.cpp" "${source}/examples/gpu/*.cpp"
    "${source}/examples/gpu/*.cu")
set(units ${headers} ${examples})
if(ONLY)
    list(FILTER units INCLUDE REGEX "${ONLY}")
endif()
list(LENGTH units total)
if(total EQUAL 0)
    message(FATAL_ERROR "No header and no example is called \"${ONLY}\"")
endif()
say("nvcc ${version}: compiling ${total} headers and examples, ${JOBS} at a time,"
    "about three minutes on two quiet cores")

set(failed_units)
set(count 0)
while(units)
    # What stands in one execute_process runs side by side; each writes what it says to a file of
    # its own.
    set(commands)
    set(batch)
    foreach(unit IN LISTS units)
        list(LENGTH batch size)
        if(size EQUAL JOBS)
            break()
        endif()
        list(APPEND batch "${unit}")
        string(MAKE_C_IDENTIFIER "${unit}" name)
        if(unit MATCHES "^examples/")
            set(file "${source}/${unit}")
        else()
            set(file "${WORK}/${name}.cu")
            file(WRITE "${file}" "#include <${unit}>\n#include <${unit}>\n")
        endif()
        file(MAKE_DIRECTORY "${WORK}/${name}")
        list(APPEND commands COMMAND sh "${WORK}/logged.sh" "${WORK}/${name}/log.txt" ${compile}
            -c "${file}" -o "${WORK}/${name}/object.o")
    endforeach()
    execute_process(${commands} RESULTS_VARIABLE results)
    foreach(unit result IN ZIP_LISTS batch results)
        list(POP_FRONT units)
        math(EXPR count "${count} + 1")
        math(EXPR tenth "${count} % 10")
        if(NOT result EQUAL 0)
            string(MAKE_C_IDENTIFIER "${unit}" name)
            file(READ "${WORK}/${name}/log.txt" log LIMIT 4000)
            say("${unit}:")
            say("${log}")
            list(APPEND failed_units "${unit}")
        endif()
        if(tenth EQUAL 0)
            say("  ${count} of ${total}")
        endif()
    endforeach()
endwhile()

say("nvcc ${version}: a program that fuses")
execute_process(COMMAND ${compile} "${source}/tests/contracts/nvcc/fuse.cu" -o "${WORK}/fuse"
    RESULT_VARIABLE failed)
if(NOT failed)
    set(fixture "${source}/tests/data/transformers/qwen3_moe")
    execute_process(COMMAND "${WORK}/fuse" "${fixture}/checkpoint" "${fixture}/loaded.safetensors"
        RESULT_VARIABLE failed)
endif()
list(LENGTH failed_units failures)
math(EXPR passed "${total} - ${failures}")
if(failed)
    message(FATAL_ERROR
        "tests/contracts/nvcc/fuse.cu failed; ${passed} of ${total} headers and examples compile")
elseif(failures GREATER 0)
    message(FATAL_ERROR "${passed} of ${total} headers and examples compile; not: ${failed_units}")
endif()
say("nvcc ${version}: ${passed} of ${total} headers and examples compile without a warning,"
    "and one program fuses")
