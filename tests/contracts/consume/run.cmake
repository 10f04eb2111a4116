# Builds and runs the loader in one of the ways to use the library that README describes.
#   cmake -DWAY=… -DWORK=… -DGENERATOR=… -DCXX=… -DCXX_FLAGS=… -DCHECKPOINT=…
#         [-DEMULATOR=…] [-DDEFINITIONS=…] -P run.cmake
# The definitions are used in every configuration (for example a toolchain); the emulator runs the
# loader.
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
file(REMOVE_RECURSE "${WORK}")

set(common -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}"
    "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}" ${DEFINITIONS})
function(run)
    execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
macro(skip reason)
    message("skipped: ${reason}")
    return()
endmacro()

# Only a compiler: one program of two translation units.
function(compile)
    separate_arguments(flags NATIVE_COMMAND "${CXX_FLAGS}")
    file(MAKE_DIRECTORY "${WORK}/bin")
    run("${CXX}" ${flags} -std=c++20 ${ARGV} "${CMAKE_CURRENT_LIST_DIR}/loader.cpp"
        "${CMAKE_CURRENT_LIST_DIR}/second.cpp"
        -o "${WORK}/bin/loader")
endfunction()
get_filename_component(compiler_name "${CXX}" NAME_WE)
if(WAY MATCHES "^(pkg_config|bare|amalgamation)$" AND compiler_name MATCHES "^(cl|clang-cl)$")
    skip("this way is written for compilers that take GCC's options")
endif()

# An installed tree, moved to another place before it is used.
if(WAY MATCHES "^(find_package|pkg_config)$")
    run("${CMAKE_COMMAND}" -S "${source}" -B "${WORK}/safefuse" ${common}
        -DSAFEFUSE_BUILD_EXAMPLES=OFF)
    run("${CMAKE_COMMAND}" --install "${WORK}/safefuse" --prefix "${WORK}/installed")
    file(RENAME "${WORK}/installed" "${WORK}/prefix")
endif()

# without exceptions, second.cpp needs only the one header
if(WAY STREQUAL "pkg_config")
    find_program(pkg_config NAMES pkg-config pkgconf)
    if(NOT pkg_config)
        skip("there is no pkg-config")
    endif()
    file(GLOB_RECURSE found "${WORK}/prefix/*/safefuse.pc")
    get_filename_component(directory "${found}" DIRECTORY)
    set(ENV{PKG_CONFIG_LIBDIR} "${directory}")
    set(ENV{PKG_CONFIG_PATH} "")
    run("${pkg_config}" --exists --print-errors "safefuse >= 0.1")
    execute_process(COMMAND "${pkg_config}" --exists "safefuse >= 1000" RESULT_VARIABLE too_old)
    if(NOT too_old)
        message(FATAL_ERROR "safefuse.pc claims to be of any version")
    endif()
    execute_process(COMMAND "${pkg_config}" --cflags --libs safefuse COMMAND_ERROR_IS_FATAL ANY
        OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE)
    separate_arguments(flags UNIX_COMMAND "${flags}")
    compile(${flags})
elseif(WAY STREQUAL "bare")
    compile("-I${source}/include")
elseif(WAY STREQUAL "amalgamation")
    run("${CMAKE_COMMAND}" -S "${source}" -B "${WORK}/safefuse" ${common}
        -DSAFEFUSE_BUILD_EXAMPLES=OFF)
    run("${CMAKE_COMMAND}" --build "${WORK}/safefuse" --target safefuse-amalgamation)
    set(made "${WORK}/safefuse/amalgamation")
    file(MAKE_DIRECTORY "${WORK}/alone/safefuse")
    file(COPY "${made}/safefuse/safefuse.hpp" DESTINATION "${WORK}/alone/safefuse")
    file(STRINGS "${made}/safefuse/safefuse.hpp" ours REGEX "^ *# *include *[<\"]safefuse")
    if(ours)
        message(FATAL_ERROR "the one header includes others of the library: ${ours}")
    endif()
    compile("-I${WORK}/alone" -fno-exceptions)
    run(${EMULATOR} "${WORK}/bin/loader" "${CHECKPOINT}")
    compile("-I${made}")
    separate_arguments(flags NATIVE_COMMAND "${CXX_FLAGS}")
    set(check "${CXX}" ${flags} -std=c++20 -fsyntax-only)
    file(GLOB headers RELATIVE "${made}" "${made}/safefuse/*.hpp")
    set(text "")
    foreach(header IN LISTS headers headers)
        string(APPEND text "#include <${header}>\n")
    endforeach()
    file(WRITE "${WORK}/every_header.cpp" "${text}")
    run(${check} "-I${made}" "${WORK}/every_header.cpp")

    # A second run gives the same bytes.
    run("${CMAKE_COMMAND}" "-DOUTPUT=${WORK}/again" -P "${CMAKE_CURRENT_LIST_DIR}/amalgamate.cmake")
    foreach(header IN LISTS headers)
        run("${CMAKE_COMMAND}" -E compare_files "${made}/${header}" "${WORK}/again/${header}")
    endforeach()

    # It may meet the headers it is made from in one translation unit.
    file(WRITE "${WORK}/both.cpp"
        "#include \"${made}/safefuse/safefuse.hpp\"\n#include <safefuse/safefuse.hpp>\n")
    run(${check} "-I${source}/include" "${WORK}/both.cpp")
else()
    run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${WORK}/build" ${common} -DWAY=${WAY}
        "-DSAFEFUSE_SOURCE=${source}" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
        "-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=$<1:${WORK}/bin>")
    run("${CMAKE_COMMAND}" --build "${WORK}/build")
endif()
file(GLOB loader "${WORK}/bin/loader*")
run(${EMULATOR} "${loader}" "${CHECKPOINT}")
