# Gets doctest, builds the tests, runs them: cmake -P tests/run.cmake, from any directory.
# Options stand before -P:
#   -DBUILD_DIR=…         default build/tests in the repository
#   -DCXX=clang++         compiler; default: the environment's CXX, else what CMake finds
#   -DCXX_FLAGS=…         added to the compiler's flags
#   -DCXX_STANDARD=23     default 20
#   -DCMAKE_BUILD_TYPE=…  default Release
#   -DSANITIZE=address,undefined
#   -DWERROR=ON           warnings are errors
#   -DPYTHON=…            the Python for tests/interop; default python3
#   -DTARGETS=…           list: what to build; default all
#   -DTESTS=…             regular expression: which ctest entries to run; the test program gets their sources only
#   -DJOBS=…              how many compilers and tests at a time; default one for each core
#   -DSYSTEM=Windows      build for another machine: its CMAKE_SYSTEM_NAME, with -DCXX=its compiler
#   -DEMULATOR=…          list: the program that runs the other machine's programs, and its options
# tests/platforms.cmake knows what to give for a number of machines.
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
if(NOT BUILD_DIR)
    set(BUILD_DIR "${source}/build/tests")
endif()
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
include("${source}/tests/tools.cmake")
find_tools(tools)

# doctest: installed, else Debian's package; tests/CMakeLists.txt downloads it where neither is to be had.
find_path(doctest_dir doctest/doctest.h PATHS /usr/include /usr/local/include /opt/homebrew/include)
find_program(apt_get apt-get)
if(NOT doctest_dir AND apt_get)
    find_program(sudo sudo)
    execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
    set(as_root)
    if(NOT user STREQUAL "0" AND sudo)
        set(as_root "${sudo}" -n)
    endif()
    if(user STREQUAL "0" OR sudo)
        set(install ${as_root} "${CMAKE_COMMAND}" -E env DEBIAN_FRONTEND=noninteractive "${apt_get}" -qq)
        message(STATUS "doctest is not installed: trying apt-get install doctest-dev")
        execute_process(COMMAND ${install} install -y doctest-dev RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
        if(failed)  # the package lists may be old or absent
            execute_process(COMMAND ${install} update OUTPUT_QUIET ERROR_QUIET)
            execute_process(COMMAND ${install} install -y doctest-dev RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
        endif()
        find_path(doctest_dir doctest/doctest.h PATHS /usr/include)
    endif()
endif()

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
set(hint)
if(NOT doctest_dir)
    set(hint " Where doctest cannot be downloaded, install it first (Debian: apt-get install doctest-dev).")
endif()
if(NOT JOBS)
    set(JOBS ${cores})
endif()
set(machine)
if(CXX_STANDARD)
    list(APPEND machine -DCMAKE_CXX_STANDARD=${CXX_STANDARD})
endif()
if(SYSTEM)
    list(APPEND machine "-DCMAKE_SYSTEM_NAME=${SYSTEM}")
    if(doctest_dir)  # CMake does not look for another machine's headers in the places of this one
        list(APPEND machine "-DSAFEFUSE_DOCTEST_DIR=${doctest_dir}")
    endif()
endif()
if(EMULATOR)
    string(REPLACE ";" "\\;" emulator "${EMULATOR}")
    list(APPEND machine "-DCMAKE_CROSSCOMPILING_EMULATOR=${emulator}")
endif()
set(targets)
if(TARGETS)
    set(targets --target ${TARGETS})
endif()
run_or_stop("The tests could not be configured; the first error above says why.${hint}"
    "${CMAKE_COMMAND}" --fresh -S "${source}" -B "${BUILD_DIR}" ${tools} "-DCMAKE_CXX_FLAGS=${flags}" -DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE}
    -DSAFEFUSE_BUILD_TESTS=ON -DSAFEFUSE_BUILD_EXAMPLES=ON -DSAFEFUSE_WERROR=${WERROR} "-DSAFEFUSE_PYTHON=${PYTHON}"
    "-DSAFEFUSE_TESTS=${TESTS}"
    ${machine})
run_or_stop("The tests do not compile."
    "${CMAKE_COMMAND}" --build "${BUILD_DIR}" --config ${CMAKE_BUILD_TYPE} --parallel ${JOBS} ${targets})
set(which)
if(TESTS)
    set(which -R "${TESTS}")
endif()
run_or_stop("Some tests failed."
    "${CMAKE_CTEST_COMMAND}" --test-dir "${BUILD_DIR}" -C ${CMAKE_BUILD_TYPE} --output-on-failure --no-tests=error
    --parallel ${JOBS} ${which})
