# Builds the benchmarks, makes their inputs, runs all contenders in turns, and draws the results:
#
#     cmake -P tests/benchmark/run.cmake
#
# from any directory. Options go before -P:
#
#     -DBUILD_DIR=…    default build/benchmark in the repository; the results go there:
#                      results.json, chart.svg, scaling.svg
#     -DWORK=…         where inputs are made and removed; default: the OS's temporary directory
#     -DROUNDS=…       how often each contender runs; default 7, or 5 with -DSIZE=small
#     -DSIZE=small     one minute, to see that it works; default full: some minutes, sizes as free
#                      memory and disk allow
#     -DPYTHON=…       a Python with safetensors, numpy and torch; default python3
#     -DONLY=…         regular expression: which benchmarks (header, open, fuse, convert, rewrite,
#                      scaling)
#     -DCXX=clang++    compiler; default: the environment's CXX, else what CMake finds
#     -DCXX_FLAGS=…    added to the compiler's flags, such as -march=native
#
# It reports only. It fails if something does not build or does not work.
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
if(NOT BUILD_DIR)
    set(BUILD_DIR "${source}/build/benchmark")
endif()
get_filename_component(BUILD_DIR "${BUILD_DIR}" ABSOLUTE)
if(NOT SIZE STREQUAL "small")
    set(SIZE full)
endif()
if(NOT ROUNDS)
    set(ROUNDS 7)
    if(SIZE STREQUAL "small")
        set(ROUNDS 5)
    endif()
endif()
if(NOT WORK)
    set(WORK "$ENV{TMPDIR}")
    if(NOT WORK)
        set(WORK /tmp)
        if(CMAKE_HOST_WIN32)
            set(WORK "$ENV{TEMP}")
        endif()
    endif()
endif()
if(NOT PYTHON)
    find_program(PYTHON python3)
endif()
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
cmake_host_system_information(RESULT memory_mib QUERY AVAILABLE_PHYSICAL_MEMORY)
include("${source}/tests/support/tools.cmake")
find_tools(tools)

run_or_stop("The benchmarks could not be configured."
    "${CMAKE_COMMAND}" -S "${source}/tests/benchmark" -B "${BUILD_DIR}" ${tools}
    "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}" -DCMAKE_BUILD_TYPE=Release
    -DSAFEFUSE_BENCHMARK_PEERS=ON --log-level=WARNING)
set(targets inspect benchmark_chart)
set(chosen)
foreach(benchmark IN ITEMS header open fuse convert rewrite scaling)
    if(NOT ONLY OR benchmark MATCHES "${ONLY}")
        list(APPEND chosen ${benchmark})
        list(APPEND targets benchmark_${benchmark})
    endif()
endforeach()
if(NOT chosen)
    message(FATAL_ERROR "No benchmark is called ${ONLY}.")
endif()
run_or_stop("The benchmarks do not compile."
    "${CMAKE_COMMAND}" --build "${BUILD_DIR}" --config Release --parallel ${cores}
    --target ${targets})

# Experts of 9.4 MB: source, result and a peer's result and temporaries must fit memory five times,
# a rewrite the disk.
math(EXPR experts "${memory_mib} / 9 / 6")
if(experts GREATER 64)
    set(experts 64)
endif()
if(SIZE STREQUAL "small" OR experts LESS 8)
    set(experts 8)
endif()
math(EXPR rewrite_mb "${memory_mib} / 12")
execute_process(COMMAND df -Pm "${WORK}" OUTPUT_VARIABLE df RESULT_VARIABLE failed ERROR_QUIET)
if(NOT failed AND df MATCHES "\n[^\n]* ([0-9]+) +[0-9]+%")
    math(EXPR disk_mb "${CMAKE_MATCH_1} / 4")
    if(disk_mb LESS rewrite_mb)
        set(rewrite_mb ${disk_mb})
    endif()
endif()
if(rewrite_mb GREATER 400)
    set(rewrite_mb 400)
endif()
if(SIZE STREQUAL "small" OR rewrite_mb LESS 60)
    set(rewrite_mb 60)
endif()

set(results)
set(ending)
if(CMAKE_HOST_WIN32)
    set(ending ".exe")
endif()
foreach(benchmark IN LISTS chosen)
    set(arguments)
    if(benchmark STREQUAL "fuse")
        math(EXPR arguments "${experts} * 10")
    elseif(benchmark STREQUAL "open")
        set(arguments --inspect "${BUILD_DIR}/safefuse/bin/inspect${ending}")
    elseif(benchmark STREQUAL "rewrite")
        set(arguments ${rewrite_mb})
    endif()
    say("")
    say("== ${benchmark}")
    set(json "${BUILD_DIR}/${benchmark}.json")
    file(REMOVE "${json}")
    set(program "${BUILD_DIR}/bin/benchmark_${benchmark}${ending}")
    set(python)
    if(PYTHON)
        set(python --python "${PYTHON}")
    endif()
    run_or_stop("benchmark_${benchmark} did not work."
        "${program}" ${arguments} --json "${json}" --rounds ${ROUNDS} --size ${SIZE} --work
        "${WORK}" ${python})
    list(APPEND results "${json}")
endforeach()
run_or_stop("The charts could not be drawn."
    "${BUILD_DIR}/bin/benchmark_chart" "${BUILD_DIR}/chart.svg" "${BUILD_DIR}/scaling.svg"
    "${BUILD_DIR}/results.json" ${results})
say("")
say("${BUILD_DIR}/results.json, chart.svg and scaling.svg hold this.")
