# Gets doctest, builds the tests and runs them:
#
#     cmake -P tests/run.cmake
#
# from any directory. Options go before -P:
#
#     -DBUILD_DIR=…         default build/tests in the repository
#     -DCXX=clang++         compiler; default: the environment's CXX, else what CMake finds
#     -DCXX_FLAGS=…         added to the compiler's flags
#     -DCXX_STANDARD=23     default 20
#     -DCMAKE_BUILD_TYPE=…  default Release
#     -DSANITIZE=address,undefined
#     -DWERROR=ON           warnings are errors
#     -DPYTHON=…            the Python for tests/interop; default python3
#     -DTARGETS=…           list: what to build; default all
#     -DTESTS=…             regular expression: which ctest entries to run; the test program gets
#                           only their sources
#     -DJOBS=…              how many compilers and tests run at once; default one per core
#     -DSYSTEM=Windows      build for another machine: its CMAKE_SYSTEM_NAME; -DCXX=its compiler
#     -DEMULATOR=…          list: a program that runs the other machine's programs, with options
#
# tests/platforms.cmake has the options for many machines.
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
if(NOT BUILD_DIR)
    set(BUILD_DIR "${source}/build/tests")
endif()
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
include("${source}/tests/support/tools.cmake")
find_tools(tools)

say("The tests: about 10 minutes on two quiet cores, most of them for compiling.")
say("Step 1 of 4: finding doctest")
include("${source}/tests/support/doctest.cmake")
find_doctest(doctest_dir "${BUILD_DIR}")

if(WERROR)
    set(WERROR ON)
else()
    set(WERROR OFF)
endif()
set(flags "$ENV{CXXFLAGS} ${CXX_FLAGS}")
if(SANITIZE)
    string(APPEND flags " -fsanitize=${SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer")
endif()
string(STRIP "${flags}" flags)
if(NOT JOBS)
    set(JOBS ${cores})
endif()
set(machine)
if(CXX_STANDARD)
    list(APPEND machine -DCMAKE_CXX_STANDARD=${CXX_STANDARD})
endif()
if(SYSTEM)
    list(APPEND machine "-DCMAKE_SYSTEM_NAME=${SYSTEM}")
endif()
if(EMULATOR)
    string(REPLACE ";" "\\;" emulator "${EMULATOR}")
    list(APPEND machine "-DCMAKE_CROSSCOMPILING_EMULATOR=${emulator}")
endif()
set(targets)
if(TARGETS)
    set(targets --target ${TARGETS})
endif()
say("Step 2 of 4: configuring in ${BUILD_DIR}")
run_or_stop("The tests could not be configured; the first error above says why."
    "${CMAKE_COMMAND}" --fresh -S "${source}" -B "${BUILD_DIR}" ${tools}
    "-DCMAKE_CXX_FLAGS=${flags}" -DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE}
    -DSAFEFUSE_BUILD_TESTS=ON -DSAFEFUSE_BUILD_EXAMPLES=ON -DSAFEFUSE_BUILD_GPU_EXAMPLES=OFF
    -DSAFEFUSE_WERROR=${WERROR} "-DSAFEFUSE_PYTHON=${PYTHON}"
    "-DSAFEFUSE_TESTS=${TESTS}" "-DSAFEFUSE_DOCTEST_DIR=${doctest_dir}"
    ${machine})
say("Step 3 of 4: compiling, ${JOBS} at a time")
run_or_stop("The tests do not compile."
    "${CMAKE_COMMAND}" --build "${BUILD_DIR}" --config ${CMAKE_BUILD_TYPE}
    --parallel ${JOBS} ${targets})
set(which)
if(TESTS)
    set(which -R "${TESTS}")
endif()
say("Step 4 of 4: running, ${JOBS} at a time")
run_or_stop("Some tests failed."
    "${CMAKE_CTEST_COMMAND}" --test-dir "${BUILD_DIR}" -C ${CMAKE_BUILD_TYPE} --output-on-failure
    --no-tests=error
    --parallel ${JOBS} ${which})
