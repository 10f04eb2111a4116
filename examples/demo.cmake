# Builds four example programs, and fuses and unfuses a checkpoint of about 1 GB:
#
#     cmake -P examples/demo.cmake
#
# from any directory. Options go before -P:
#
#     -DBUILD_DIR=…  default build/demo in the repository
#     -DWORK=…       where the checkpoints go, 3.5 GB for a minute; default BUILD_DIR/work
#     -DKEEP=1       keep the checkpoints
#     -DCXX=clang++  compiler; default: the environment's CXX, else what CMake finds
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
if(NOT BUILD_DIR)
    set(BUILD_DIR "${source}/build/demo")
endif()
get_filename_component(BUILD_DIR "${BUILD_DIR}" ABSOLUTE)
if(NOT WORK)
    set(WORK "${BUILD_DIR}/work")
endif()
get_filename_component(WORK "${WORK}" ABSOLUTE)
include("${source}/tests/support/tools.cmake")
find_tools(tools)

cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
say("Building the four programs that it runs into ${BUILD_DIR}/bin, ${cores} at a time:"
    "about a minute on two quiet cores")
run_or_stop("The examples could not be configured; what is missing stands above."
    "${CMAKE_COMMAND}" --fresh -S "${source}" -B "${BUILD_DIR}" ${tools} -DCMAKE_BUILD_TYPE=Release
    -DSAFEFUSE_BUILD_EXAMPLES=ON
    -DSAFEFUSE_BUILD_GPU_EXAMPLES=OFF
    --log-level=WARNING)
run_or_stop("The examples do not compile."
    "${CMAKE_COMMAND}" --build "${BUILD_DIR}" --config Release --parallel ${cores}
    --target safefuse-demo)

# Only these folders are ever removed, so that -DWORK=~ deletes nothing else.
set(original "${WORK}/1-unfused")
set(fused "${WORK}/2-fused")
set(back "${WORK}/3-unfused-again")
file(REMOVE_RECURSE "${original}" "${fused}" "${back}")
file(MAKE_DIRECTORY "${WORK}")

find_program(df df NO_CACHE)
if(df)
    execute_process(COMMAND "${df}" -Pk "${WORK}" OUTPUT_VARIABLE free ERROR_QUIET)
    if(free MATCHES " ([0-9]+) +[0-9]+% " AND CMAKE_MATCH_1 LESS 3500000)
        message(FATAL_ERROR
            "The demo needs 3.5 GB on the disk of ${WORK}, and ${CMAKE_MATCH_1} KiB are free; "
            "-DWORK=… before -P "
            "names another place.")
    endif()
endif()

function(clean_up)
    if(NOT KEEP)
        file(REMOVE_RECURSE "${original}" "${fused}" "${back}")
    endif()
endfunction()

set(table "")
# Runs an example program, which says in its last line what it did ("summary: …"), and notes that
# line for the table.
function(step what program)
    say("\n${what}:" ${program} ${ARGN})
    find_program(path ${program} PATHS "${BUILD_DIR}/bin" NO_DEFAULT_PATH NO_CACHE)
    if(NOT path)
        clean_up()
        message(FATAL_ERROR
            "${BUILD_DIR}/bin/${program} is missing: the build above made no such program.")
    endif()
    string(TIMESTAMP begin "%s%f")
    execute_process(COMMAND "${path}" ${ARGN} RESULT_VARIABLE failed
        OUTPUT_VARIABLE output ECHO_OUTPUT_VARIABLE)
    string(TIMESTAMP end "%s%f")
    if(failed)
        clean_up()
        message(FATAL_ERROR "${program} failed (${failed}).")
    endif()
    math(EXPR milliseconds "(${end} - ${begin}) / 1000")
    if(output MATCHES "(^|\n)summary: ([^\n]*)")
        set(summary "${CMAKE_MATCH_2}")
    else()
        set(summary "${milliseconds} ms")
    endif()
    string(LENGTH "${what}" length)
    math(EXPR padding "24 - ${length}")
    string(REPEAT " " ${padding} padding)
    set(table "${table}  ${what}${padding}${summary}\n" PARENT_SCOPE)
endfunction()

set(shards --max-shard-size 300MB)
step("make a checkpoint" make_checkpoint "${original}" --family qwen2_moe --layers 4 --experts 24
    --hidden 2048 --intermediate 768
    ${shards})
step("fuse" fuse_checkpoint "${original}" "${fused}" ${shards})
step("verify" verify_fused "${original}" "${fused}")
step("unfuse" unfuse_checkpoint "${fused}" "${back}" ${shards})
step("verify again" verify_fused "${back}" "${fused}")

# Each unfused checkpoint was held, tensor by tensor, against the fused one. Split alike, they are
# the same files too.
file(GLOB files RELATIVE "${original}" "${original}/*")
file(GLOB files_back RELATIVE "${back}" "${back}/*")
list(LENGTH files count)
set(verdict "all ${count} files are byte for byte those we began with")
foreach(file IN LISTS files files_back)
    execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${original}/${file}"
        "${back}/${file}"
        RESULT_VARIABLE differs OUTPUT_QUIET ERROR_QUIET)
    if(differs)
        set(verdict
            "every tensor is byte for byte what we began with (the files are split otherwise)")
        break()
    endif()
endforeach()

say("\nThere and back:\n${table}  after unfusing, ${verdict}")
if(KEEP)
    say("  kept in ${WORK}")
endif()
clean_up()
