# Runs the commands of a page (```sh), in the order of the page, in a directory of its own. There,
# `include`, `examples`, `tests` and `.ci` are the repository's and `build` is the build.
#   cmake -DPAGE=README.md -DBUILD=build -DWORK=directory -P commands.cmake
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_program(shell sh)
if(NOT shell)
    message("skipped: there is no sh")
    return()
endif()

# Commands that take minutes, need a network, or write to the build that runs this: how they begin,
# the script that runs each, and words by which that script shows it.
set(elsewhere
    "cmake -P tests/run.cmake|.ci/fresh-machine|cmake .*-P tests/run.cmake"
    "cmake -P examples/demo.cmake|.ci/fresh-machine|cmake -P examples/demo.cmake"
    "cmake -P tests/benchmark/run.cmake|.ci/run|-P tests/benchmark/run.cmake"
    "cmake -P tests/benchmark/compile_time.cmake|.ci/run|-P tests/benchmark/compile_time.cmake"
    "cmake -P tests/platforms.cmake|.ci/run|-P tests/platforms.cmake"
    "cmake -P tests/fuzz/run.cmake|.ci/run|-P tests/fuzz/run.cmake"
    ".ci/run|.github/workflows/ci.yml|run: .ci/run"
    "cmake -S . -B build|tests/run.cmake|-S .* -B "
    "cmake --build build|tests/run.cmake|--build "
    "cmake --install build|tests/contracts/consume/run.cmake|--install"
    "python -B tests/interop|tests/CMakeLists.txt|interop/.*py"
    "python3 tests/conformance/mutation.py|tests/CMakeLists.txt|conformance/mutation.py"
    "cmake -P tests/contracts/format.cmake|tests/CMakeLists.txt|contracts/format.cmake"
    "git config blame.ignoreRevsFile|.git-blame-ignore-revs|Formatted"
    "apt-get install|.ci/run|apt-get install")

function(is_elsewhere result line)
    set(${result} NO PARENT_SCOPE)
    string(REGEX REPLACE " -D[A-Za-z_]+=[^ ]*" "" line "${line}")  # options stand before -P
    foreach(each IN LISTS elsewhere)
        string(REGEX MATCH "^(.*)\\|(.*)\\|(.*)$" each "${each}")
        set(begin "${CMAKE_MATCH_1}")
        set(script "${CMAKE_MATCH_2}")
        set(words "${CMAKE_MATCH_3}")
        string(FIND "${line}" "${begin}" at)
        if(at EQUAL 0)
            file(READ "${source}/${script}" text)
            if(NOT text MATCHES "${words}")
                message(SEND_ERROR "${script} does not run: ${begin}")
            endif()
            set(${result} YES PARENT_SCOPE)
            return()
        endif()
    endforeach()
endfunction()

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
foreach(folder IN ITEMS include examples tests .ci .github CMakeLists.txt)
    file(CREATE_LINK "${source}/${folder}" "${WORK}/${folder}" SYMBOLIC)
endforeach()
file(CREATE_LINK "${BUILD}" "${WORK}/build" SYMBOLIC)

file(READ "${PAGE}" text)
string(REPLACE ";" "\;" text "${text}")
set(script "set -e\n")
set(skipped 0)
set(count 0)
string(FIND "${text}" "```sh\n" begin)
while(NOT begin EQUAL -1)
    math(EXPR begin "${begin} + 6")
    string(SUBSTRING "${text}" ${begin} -1 text)
    string(FIND "${text}" "\n```" end)
    string(SUBSTRING "${text}" 0 ${end} block)
    string(REPLACE "\n" ";" lines "${block}")
    foreach(line IN LISTS lines)
        is_elsewhere(skip "${line}")
        if(skip)
            math(EXPR skipped "${skipped} + 1")
        else()
            math(EXPR count "${count} + 1")
            string(APPEND script "${line}\n")
        endif()
    endforeach()
    string(SUBSTRING "${text}" ${end} -1 text)
    string(FIND "${text}" "```sh\n" begin)
endwhile()
file(WRITE "${WORK}/commands.sh" "${script}")
execute_process(COMMAND "${shell}" -x commands.sh WORKING_DIRECTORY "${WORK}"
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(failed)
    message(FATAL_ERROR "A command on ${PAGE} failed (${failed}):\n${said}")
endif()
message("${count} lines ran, ${skipped} are run by other scripts")
file(REMOVE_RECURSE "${WORK}")
