# Builds the fuzz targets, makes their seeds from the conformance suite and runs them: cmake -P
# tests/fuzz/run.cmake, from any directory. Prints a line for each target; fails where one crashes,
# hangs or takes too much memory, and names the input that makes it. Options stand before -P:
#   -DBUILD_DIR=…   default build/fuzz in the repository; what targets learn stays in its folder
#                   corpus
#   -DCXX=clang++   compiler; needs libFuzzer (Debian: apt-get install clang libclang-rt-dev)
#   -DSECONDS=60    how long each target runs
#   -DSEED=1        libFuzzer's seed
#   -DJOBS=2        how many targets run at a time
#   -DTARGETS=…     list of header, shard_index, checkpoint, plan, config; default all
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
foreach(option_and_default IN ITEMS BUILD_DIR=${source}/build/fuzz CXX=clang++ SECONDS=60 SEED=1
    JOBS=2)
    string(REGEX MATCH "^([A-Z_]+)=(.*)$" _ "${option_and_default}")
    if(NOT DEFINED ${CMAKE_MATCH_1})
        set(${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
    endif()
endforeach()
if(NOT TARGETS)
    set(TARGETS header shard_index checkpoint plan config)
endif()
include("${source}/tests/support/tools.cmake")
find_tools(tools)

set(programs ${TARGETS})
list(TRANSFORM programs PREPEND fuzz_)
run_or_stop("The fuzz targets could not be configured; the first error above says why."
    "${CMAKE_COMMAND}" -S "${source}" -B "${BUILD_DIR}" ${tools} -DCMAKE_BUILD_TYPE=None
    -DSAFEFUSE_BUILD_FUZZERS=ON
    -DSAFEFUSE_BUILD_EXAMPLES=OFF)
run_or_stop("The fuzz targets do not compile."
    "${CMAKE_COMMAND}" --build "${BUILD_DIR}" --parallel ${JOBS} --target fuzz_corpus ${programs})
set(bin "${BUILD_DIR}/tests/fuzz")
run_or_stop("The seeds could not be written." "${bin}/fuzz_corpus" "${BUILD_DIR}/seeds")

# One group of at most JOBS targets after the other. execute_process runs its commands side by side,
# as a pipeline; each writes to a log of its own.
set(failures)
while(TARGETS)
    set(group ${TARGETS})
    list(LENGTH group count)
    if(count GREATER JOBS)
        list(SUBLIST TARGETS 0 ${JOBS} group)
    endif()
    list(REMOVE_ITEM TARGETS ${group})
    set(commands)
    foreach(target IN LISTS group)
        set(max_bytes 16384)
        if(target STREQUAL "plan")
            set(max_bytes 256)
        endif()
        file(MAKE_DIRECTORY "${BUILD_DIR}/corpus/${target}" "${BUILD_DIR}/found"
            "${BUILD_DIR}/seeds/${target}")
        file(WRITE "${BUILD_DIR}/${target}.log" "")
        list(APPEND commands COMMAND sh -c "exec \"$@\" </dev/null >\"$0\" 2>&1"
            "${BUILD_DIR}/${target}.log"
            "${bin}/fuzz_${target}" -seed=${SEED} -max_total_time=${SECONDS} -timeout=10
            -rss_limit_mb=2048 -max_len=${max_bytes}
            -use_value_profile=1 -print_final_stats=1
            "-artifact_prefix=${BUILD_DIR}/found/${target}-"
            "${BUILD_DIR}/corpus/${target}" "${BUILD_DIR}/seeds/${target}")
    endforeach()
    execute_process(${commands} RESULTS_VARIABLE results)
    foreach(target result IN ZIP_LISTS group results)
        file(READ "${BUILD_DIR}/${target}.log" log)
        set(runs "no")
        set(seconds "?")
        set(edges "?")
        if(log MATCHES "Done ([0-9]+) runs in ([0-9]+) second")
            set(runs ${CMAKE_MATCH_1})
            set(seconds ${CMAKE_MATCH_2})
        endif()
        if(log MATCHES ".*cov: ([0-9]+)")
            set(edges ${CMAKE_MATCH_1})
        endif()
        set(verdict "nothing found")
        if(NOT result STREQUAL "0")
            set(verdict "FAILED")
            string(REGEX MATCH "Test unit written to ([^\n]+)" _ "${log}")
            set(reproducer "${CMAKE_MATCH_1}")
            string(LENGTH "${log}" length)
            set(begin 0)
            if(length GREATER 4000)
                math(EXPR begin "${length} - 4000")
            endif()
            string(SUBSTRING "${log}" ${begin} -1 tail)
            message("${tail}")
            string(APPEND failures
                "\n  ${target}: again with ${bin}/fuzz_${target} ${reproducer}\n"
                "    log: ${BUILD_DIR}/${target}.log")
        endif()
        say("${target}: ${runs} runs in ${seconds} s, ${edges} edges covered: ${verdict}")
    endforeach()
endwhile()
if(failures)
    message(FATAL_ERROR "Fuzzing found something:${failures}")
endif()
