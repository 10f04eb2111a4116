# Builds and runs the tests on every platform whose tools are installed:
#
#     cmake -P tests/platforms.cmake
#
# from any directory. Prints a line per platform, with the reason if it is skipped, and README's
# table at the end. Fails if a platform that ran failed. Options go before -P:
#
#     -DONLY=m32,s390x  names of platforms; default all
#     -DTESTS=…         regular expression: ctest entries to run instead of a platform's own
#     -DBUILD_DIR=…     default build/platforms in the repository; each platform has a folder and a
#                       log in it
#     -DJOBS=…          how many compilers and tests run at once; default one per core
#     -DZIG=…           the zig program; default zig, else Python's package ziglang
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
include("${source}/tests/support/tools.cmake")
if(NOT BUILD_DIR)
    set(BUILD_DIR "${source}/build/platforms")
endif()
get_filename_component(BUILD_DIR "${BUILD_DIR}" ABSOLUTE)
string(REPLACE "," ";" only "${ONLY}")
set(known)
set(table)
set(failures)

file(GLOB programs "${source}/examples/learn/*.cpp" "${source}/examples/programs/*.cpp")
list(TRANSFORM programs REPLACE "^.*/(.*)\\.cpp$" "\\1")

# Whether a compiler with these flags makes programs that run. Otherwise stores the reason.
function(find_reason result directory cxx flags emulator)
    file(MAKE_DIRECTORY "${directory}")
    file(WRITE "${directory}/hello.cpp"
        "#include <cstdio>\n#include <string>\n"
        "int main() { return std::string(1, 'x').size() == 1 ? 0 : 1; }\n")
    separate_arguments(flags UNIX_COMMAND "${flags}")
    set(${result} "" PARENT_SCOPE)
    execute_process(COMMAND "${cxx}" ${flags} -std=c++20 "${directory}/hello.cpp"
        -o "${directory}/hello.exe" RESULT_VARIABLE failed
        OUTPUT_QUIET ERROR_QUIET)
    if(failed)
        set(${result} "${cxx} makes no programs with these flags" PARENT_SCOPE)
        return()
    endif()
    if(NOT emulator STREQUAL "none")
        execute_process(COMMAND ${emulator} "${directory}/hello.exe" RESULT_VARIABLE failed
            OUTPUT_QUIET ERROR_QUIET)
        if(failed)
            set(${result} "its programs do not run here" PARENT_SCOPE)
        endif()
    endif()
endfunction()

# Wine's programs share a server and a handful of services. Where they are there already, a program
# starts in 0.1 s, else in 1 s; and they hold the descriptors of whatever starts them, so that ctest
# would wait for them: hence they start here, with none, for an hour at most. Wine takes names of
# files for what the locale says they are.
function(start_server emulator)
    if(emulator STREQUAL "wine")
        set(ENV{LC_ALL} C.UTF-8)
        set(ENV{WINEDEBUG} -all)  # hide wine's own messages
        # no questions, and no entries in the user's menus
        set(ENV{WINEDLLOVERRIDES} "mscoree,mshtml,winemenubuilder.exe=")
        set(ENV{WINEPREFIX} "${BUILD_DIR}/wine")
        file(MAKE_DIRECTORY "$ENV{WINEPREFIX}")
        execute_process(COMMAND sh -c
            "(wineserver -k; wineserver -p3600; wine wineboot) </dev/null >/dev/null 2>&1")
    endif()
endfunction()
function(stop_server emulator)
    if(emulator STREQUAL "wine")
        execute_process(COMMAND sh -c "wineserver -k </dev/null >/dev/null 2>&1")
    endif()
endfunction()

# platform(NAME … TITLE … CXX … PACKAGE … [LIBRARY …] [FLAGS …] [HOW …] …): one row of the table.
# The rest is what tests/run.cmake takes. KIND: empty for the tests; `there_and_back` for the
# program in tests/contracts/sanitize, `compile` where nothing can run.
function(platform)
    cmake_parse_arguments(PARSE_ARGV 0 p ""
        "NAME;TITLE;CXX;PACKAGE;LIBRARY;FLAGS;HOW;STANDARD;TYPE;SYSTEM;SANITIZE;TESTS;KIND;WERROR"
        "EMULATOR")
    set(known ${known} ${p_NAME} PARENT_SCOPE)
    if(only AND NOT p_NAME IN_LIST only)
        return()
    endif()
    foreach(program IN LISTS p_CXX p_EMULATOR)
        if(program MATCHES "^-")
            break()
        endif()
        unset(found)
        find_program(found NAMES "${program}" NO_CACHE)
        if(NOT found)
            say("${p_NAME}: skipped: there is no ${program} (${p_PACKAGE})")
            return()
        endif()
    endforeach()
    set(directory "${BUILD_DIR}/${p_NAME}")
    set(runs_by "${p_EMULATOR}")
    if(p_KIND STREQUAL "compile")
        set(runs_by none)
    endif()
    set(flags "${p_FLAGS}")
    if(p_SANITIZE)
        string(APPEND flags " -fsanitize=${p_SANITIZE}")
    endif()
    start_server("${p_EMULATOR}")
    find_reason(reason "${directory}" "${p_CXX}" "${flags}" "${runs_by}")
    if(reason)
        stop_server("${p_EMULATOR}")
        say("${p_NAME}: skipped: ${reason} (${p_PACKAGE})")
        return()
    endif()
    # zig, asked for its version, leaves a file where it is asked
    execute_process(COMMAND "${p_CXX}" --version WORKING_DIRECTORY "${directory}"
        OUTPUT_VARIABLE version ERROR_QUIET)
    string(REGEX MATCH "[0-9]+(\\.[0-9]+|-posix|-win32)+" version "${version}")
    set(compiler "g++ ${version}")
    if(p_CXX MATCHES "clang|zig")
        set(compiler "clang ${version}")
    endif()
    if(NOT p_LIBRARY)
        set(p_LIBRARY libstdc++)
    endif()
    if(NOT p_STANDARD)
        set(p_STANDARD 20)
    endif()
    if(NOT p_TYPE)
        set(p_TYPE None)
    endif()
    set(jobs)
    if(JOBS)
        set(jobs -DJOBS=${JOBS})
    endif()

    if(TESTS)
        set(p_TESTS "${TESTS}")
        string(APPEND p_HOW ", some tests")
    endif()
    string(TIMESTAMP begin "%s" UTC)
    if(p_KIND STREQUAL "compile")
        compile_everything(passed total "${directory}" "${p_CXX}" "${p_FLAGS}" "${p_STANDARD}")
        set(output)
        set(count "${passed} of ${total} files compiled only")
    elseif(p_KIND STREQUAL "there_and_back")
        go_there_and_back(passed total output "${directory}" "${p_CXX}" "${flags}" "${p_STANDARD}")
        set(count "${passed}/${total} checkpoints there and back")
    else()
        set(targets safefuse_tests)
        if("examples" MATCHES "${p_TESTS}")
            list(APPEND targets ${programs})
        endif()
        execute_process(COMMAND "${CMAKE_COMMAND}" "-DBUILD_DIR=${directory}" "-DCXX=${p_CXX}"
            "-DCXX_FLAGS=${p_FLAGS}"
            -DCXX_STANDARD=${p_STANDARD} -DCMAKE_BUILD_TYPE=${p_TYPE} "-DSANITIZE=${p_SANITIZE}"
            "-DSYSTEM=${p_SYSTEM}" "-DEMULATOR=${p_EMULATOR}"
            "-DTARGETS=${targets}" "-DTESTS=${p_TESTS}" -DWERROR=${p_WERROR} ${jobs}
            -P "${source}/tests/run.cmake"
            OUTPUT_VARIABLE output ERROR_VARIABLE output)
        set(passed 0)
        set(total "none")
        if(output MATCHES "tests passed, ([0-9]+) tests? failed out of ([0-9]+)")
            set(total ${CMAKE_MATCH_2})
            math(EXPR passed "${total} - ${CMAKE_MATCH_1}")
        elseif(output MATCHES "100% tests passed[^\n]* ([0-9]+)")
            set(total ${CMAKE_MATCH_1})
            set(passed ${total})
        endif()
        set(count "${passed}/${total}")
        # Tests may warn, headers may not.
        if(output MATCHES "include/safefuse/[^\n]*warning[^\n]*")
            set(total "${total}, but: ${CMAKE_MATCH_0}")
        endif()
    endif()
    stop_server("${p_EMULATOR}")
    string(TIMESTAMP end "%s" UTC)
    math(EXPR seconds "${end} - ${begin}")
    if(output)
        file(WRITE "${directory}/log.txt" "${output}")
    endif()
    if(passed STREQUAL total)
        say("${p_NAME}: ${compiler}, ${p_LIBRARY}: ${count}, ${seconds} s")
    else()
        string(FIND "${output}" "Test project" begin_of_tests)
        if(begin_of_tests GREATER 0)
            string(SUBSTRING "${output}" ${begin_of_tests} -1 output)
        endif()
        say("${output}")
        say("${p_NAME}: ${compiler}, ${p_LIBRARY}: FAILED, ${passed}/${total}, ${seconds} s;"
            "see ${directory}/log.txt")
        set(failures ${failures} ${p_NAME} PARENT_SCOPE)
    endif()
    set(flags "C++${p_STANDARD}")
    if(p_SANITIZE)
        string(APPEND p_FLAGS " -fsanitize=${p_SANITIZE}")
    endif()
    string(REGEX REPLACE " -idirafter [^ ]+" "" p_FLAGS "${p_FLAGS}")
    string(STRIP "${p_FLAGS}" p_FLAGS)
    if(p_FLAGS)
        string(APPEND flags ", `${p_FLAGS}`")
    endif()
    if(NOT p_HOW)
        set(p_HOW "here")
    endif()
    set(table
        "${table}| ${p_TITLE} | ${compiler}, ${p_LIBRARY} | ${flags} | ${count} | ${p_HOW} |\n"
        PARENT_SCOPE)
endfunction()

# Compiles every header, included twice, and the example programs to object files.
function(compile_everything passed_result total_result directory cxx flags standard)
    file(GLOB_RECURSE headers RELATIVE "${source}/include" "${source}/include/*.hpp")
    list(REMOVE_ITEM headers safefuse/io/detail/os_windows.hpp)
    set(sources)
    foreach(header IN LISTS headers)
        string(MAKE_C_IDENTIFIER "${header}" name)
        file(WRITE "${directory}/alone/${name}.cpp" "#include <${header}>\n#include <${header}>\n")
        list(APPEND sources "${directory}/alone/${name}.cpp")
    endforeach()
    file(GLOB examples "${source}/examples/learn/*.cpp" "${source}/examples/programs/*.cpp")
    list(APPEND sources ${examples})
    separate_arguments(flags UNIX_COMMAND "${flags}")
    set(passed 0)
    set(log)
    foreach(file IN LISTS sources)
        execute_process(COMMAND "${cxx}" ${flags} -std=c++${standard} -Wall -Wextra -Wpedantic
            -Wconversion -Wsign-conversion -Wshadow
            -Wold-style-cast -Werror "-I${source}/include" -c "${file}" -o "${directory}/object.o"
            RESULT_VARIABLE failed
            OUTPUT_VARIABLE output ERROR_VARIABLE output)
        if(failed)
            string(APPEND log "${output}")
        else()
            math(EXPR passed "${passed} + 1")
        endif()
    endforeach()
    file(WRITE "${directory}/log.txt" "${log}")
    list(LENGTH sources total)
    set(${passed_result} ${passed} PARENT_SCOPE)
    set(${total_result} ${total} PARENT_SCOPE)
endfunction()

# Checkpoints as transformers has them, fused and unfused by a program that uses no library but
# ours, in both ways of reading.
function(go_there_and_back passed_result total_result output_result directory cxx flags standard)
    separate_arguments(flags UNIX_COMMAND "${flags}")
    set(passed 0)
    set(total 0)
    execute_process(COMMAND "${cxx}" ${flags} -std=c++${standard} "-I${source}/include"
        "${source}/tests/contracts/sanitize/there_and_back.cpp"
        -o "${directory}/there_and_back" OUTPUT_VARIABLE log ERROR_VARIABLE log)
    foreach(type_and_family IN ITEMS qwen3_moe=qwen2_moe mixtral=mixtral nemotron_h=nemotron_h
        granitemoe=granitemoe deepseek_v3=qwen2_moe)
        string(REPLACE "=" ";" names ${type_and_family})
        list(GET names 0 type)
        list(GET names 1 family)
        foreach(way IN ITEMS mmap pread)
            math(EXPR total "${total} + 1")
            file(REMOVE_RECURSE "${directory}/fused" "${directory}/unfused")
            execute_process(COMMAND "${directory}/there_and_back" ${way} ${family}
                "${source}/tests/data/transformers/${type}/checkpoint"
                "${directory}/fused" "${directory}/unfused" RESULT_VARIABLE failed
                OUTPUT_VARIABLE words ERROR_VARIABLE words)
            string(APPEND log "${type} ${way}: ${failed}\n${words}")
            if(failed EQUAL 0)
                math(EXPR passed "${passed} + 1")
            endif()
        endforeach()
    endforeach()
    set(${passed_result} ${passed} PARENT_SCOPE)
    set(${total_result} ${total} PARENT_SCOPE)
    set(${output_result} "${log}" PARENT_SCOPE)
endfunction()

# zig's compiler as one program, which takes -fsyntax-only and does not add sanitizers of its own to
# what is built with -O0.
function(make_zig result target)
    set(${result} zig PARENT_SCOPE)
    set(command "${ZIG}")
    if(NOT command)
        find_program(command zig NO_CACHE)
    endif()
    if(NOT command)
        find_program(python3 python3 NO_CACHE)
        execute_process(COMMAND "${python3}"
            -c "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))"
            OUTPUT_VARIABLE command OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
    if(NOT command)
        return()
    endif()
    file(WRITE "${BUILD_DIR}/zig-${target}" "#!/bin/sh
for argument do
    shift
    if [ \"$argument\" = -fsyntax-only ]; then set -- \"$@\" -c -o /dev/null
    else set -- \"$@\" \"$argument\"; fi
done
exec '${command}' c++ -target ${target} -fno-sanitize=undefined \"$@\"
")
    file(CHMOD "${BUILD_DIR}/zig-${target}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
    set(${result} "${BUILD_DIR}/zig-${target}" PARENT_SCOPE)
endfunction()

# What runs where. `programs` leaves out the checks that ask the compiler only: other flags for the
# optimiser change none of them.
set(programs_only "\\.test\\.cpp$|^examples$")
set(everything "${programs_only}|^alone|^compile_fail$")
set(clang14 clang++)
find_program(found clang++-14 NO_CACHE)
if(found)
    set(clang14 clang++-14)
endif()

platform(NAME gcc TITLE "Linux x86-64" CXX g++ FLAGS "-O1" TESTS "${everything}"
    WERROR ON PACKAGE "Debian: g++")
platform(NAME gcc-23 TITLE "Linux x86-64" CXX g++ FLAGS "-O1" STANDARD 23 TESTS "${everything}"
    WERROR ON PACKAGE "Debian: g++")
platform(NAME clang-14 TITLE "Linux x86-64" CXX ${clang14} FLAGS "-O1" TESTS "${everything}"
    WERROR ON PACKAGE "Debian: clang-14")
foreach(standard IN ITEMS 20 23)
    platform(NAME clang-19-${standard} TITLE "Linux x86-64" CXX clang++-19 FLAGS "-O1"
        STANDARD ${standard} TESTS "${everything}" WERROR ON
        PACKAGE "Debian: clang-19")
    platform(NAME libc++-${standard} TITLE "Linux x86-64" CXX clang++-19 LIBRARY libc++
        FLAGS "-O1 -stdlib=libc++" STANDARD ${standard}
        TESTS "${everything}" WERROR ON PACKAGE "Debian: clang-19 libc++-19-dev libc++abi-19-dev")
endforeach()

# Machines
set(m32 "-O1 -m32")
if(NOT EXISTS /usr/include/asm AND EXISTS /usr/include/x86_64-linux-gnu/asm)
    # Debian's g++-12-multilib beside compilers for other machines
    string(APPEND m32 " -idirafter /usr/include/x86_64-linux-gnu")
endif()
platform(NAME m32 TITLE "Linux x86, 32 bits, `off_t` of 32 bits" CXX g++ FLAGS "${m32}"
    TESTS "${programs_only}|^alone" PACKAGE "Debian: g++-multilib")
platform(NAME aarch64 TITLE "Linux aarch64" CXX aarch64-linux-gnu-g++ FLAGS "-O1" SYSTEM Linux
    EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu TESTS "${programs_only}"
    WERROR ON HOW "qemu-user"
    PACKAGE "Debian: g++-aarch64-linux-gnu qemu-user")
platform(NAME s390x TITLE "Linux s390x, big-endian" CXX s390x-linux-gnu-g++ FLAGS "-O1" SYSTEM Linux
    EMULATOR qemu-s390x -L /usr/s390x-linux-gnu TESTS "${programs_only}" WERROR ON HOW "qemu-user"
    PACKAGE "Debian: g++-s390x-linux-gnu qemu-user")
platform(NAME windows TITLE "Windows x86-64" CXX x86_64-w64-mingw32-g++-posix FLAGS "-O1 -static"
    SYSTEM Windows EMULATOR wine
    TESTS "${everything}" WERROR ON HOW "wine"
    PACKAGE "Debian: g++-mingw-w64-x86-64-posix wine wine64")
make_zig(zig x86_64-linux-musl)
platform(NAME musl TITLE "Linux x86-64, musl, static" CXX "${zig}" LIBRARY "libc++ of zig"
    FLAGS "-O1" SYSTEM Linux
    TESTS "${programs_only}|^alone" PACKAGE "pip: ziglang")
foreach(target IN ITEMS aarch64-macos x86_64-freebsd arm-linux-musleabihf)
    make_zig(zig ${target})
    platform(NAME ${target} TITLE "${target}" CXX "${zig}" LIBRARY "libc++ of zig" FLAGS "-O1"
        KIND compile HOW "compiled only"
        PACKAGE "pip: ziglang")
endforeach()

# Flags
foreach(level IN ITEMS -O0 -O2)
    string(REPLACE "-O" "O" name ${level})
    platform(NAME ${name} TITLE "Linux x86-64" CXX g++ FLAGS "${level}" TESTS "${programs_only}"
        PACKAGE "Debian: g++")
endforeach()
platform(NAME native TITLE "Linux x86-64" CXX g++ FLAGS "-O3 -march=native" TESTS "${programs_only}"
    PACKAGE "Debian: g++")
platform(NAME lto TITLE "Linux x86-64" CXX g++ FLAGS "-O2 -flto=auto" TESTS "${programs_only}"
    PACKAGE "Debian: g++")
file(GLOB_RECURSE without_exceptions "${source}/tests/*.test.cpp")
list(TRANSFORM without_exceptions REPLACE "^.*/(.*)\\.test\\.cpp$" "\\1")
list(REMOVE_ITEM without_exceptions throwing)
list(JOIN without_exceptions "|" without_exceptions)
platform(NAME plain TITLE "Linux x86-64, no exceptions, no RTTI" CXX g++
    FLAGS "-O1 -fno-exceptions -fno-rtti -DDOCTEST_CONFIG_NO_EXCEPTIONS_BUT_WITH_ALL_ASSERTS"
    TESTS "^(${without_exceptions})\\.test\\.cpp$|^examples$" HOW "all but throwing.hpp"
    PACKAGE "Debian: g++")

# What watches a program run
platform(NAME address TITLE "Linux x86-64" CXX ${clang14} FLAGS "-O1" SANITIZE address,undefined
    TESTS "${programs_only}"
    PACKAGE "Debian: clang libclang-rt-dev")
platform(NAME thread TITLE "Linux x86-64" CXX g++ FLAGS "-O1" SANITIZE thread
    TESTS "${programs_only}" PACKAGE "Debian: g++")
# The tests use a standard library that memory sanitizer does not see into, and would be blamed for
# what that writes.
platform(NAME memory TITLE "Linux x86-64" CXX ${clang14} FLAGS "-O1 -g1" KIND there_and_back
    SANITIZE memory HOW "one program, not the tests"
    PACKAGE "Debian: clang libclang-rt-dev")
string(CONCAT under_valgrind "^(header|json_cursor|name_table|byte_source|mapped_file|tensor_file|"
    "shard_index|checkpoint|writer|fuse|convert|repack)\\.test\\.cpp$|^examples$")
platform(NAME valgrind TITLE "Linux x86-64" CXX g++ FLAGS "-O1 -g1" SYSTEM Linux
    EMULATOR valgrind -q --error-exitcode=99 --child-silent-after-fork=yes
    TESTS "${under_valgrind}"
    HOW "valgrind memcheck, tests of files and copies" PACKAGE "Debian: valgrind")

# Every header and example as a .cu file
list(APPEND known nvcc)
if(NOT only OR "nvcc" IN_LIST only)
    find_nvcc(nvcc version)
    if(NOT nvcc)
        say("nvcc: skipped: there is no nvcc 13 (pip: nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt"
            "nvidia-cuda-runtime nvidia-cuda-cccl)")
    else()
        set(arguments "-DNVCC=${nvcc}" "-DWORK=${BUILD_DIR}/nvcc")
        if(JOBS)
            list(APPEND arguments -DJOBS=${JOBS})
        endif()
        string(TIMESTAMP begin "%s" UTC)
        execute_process(COMMAND "${CMAKE_COMMAND}" ${arguments}
            -P "${source}/tests/contracts/nvcc/run.cmake" RESULT_VARIABLE failed
            OUTPUT_VARIABLE output ERROR_VARIABLE output ECHO_OUTPUT_VARIABLE ECHO_ERROR_VARIABLE)
        string(TIMESTAMP end "%s" UTC)
        math(EXPR seconds "${end} - ${begin}")
        string(REGEX MATCH "[0-9]+ of [0-9]+ headers and examples" count "${output}")
        if(failed)
            say("nvcc: nvcc ${version}: FAILED, ${count}, ${seconds} s")
            list(APPEND failures nvcc)
        else()
            say("nvcc: nvcc ${version}: ${count}, ${seconds} s")
        endif()
        string(APPEND table
            "| Linux x86-64, CUDA files | nvcc ${version} with g++, libstdc++ "
            "| C++20, warnings are errors | "
            "${count}, and a program that fuses | compiled here, run without a GPU |\n")
    endif()
endif()

foreach(name IN LISTS only)
    if(NOT name IN_LIST known)
        list(JOIN known ", " names)
        message(FATAL_ERROR "No platform is called ${name}; known are ${names}")
    endif()
endforeach()
if(table)
    say("")
    say("| platform | compiler, library | flags | tests | how |")
    say("|---|---|---|---|---|")
    string(REGEX REPLACE "\n$" "" table "${table}")
    say("${table}")
endif()
if(failures)
    list(JOIN failures ", " names)
    message(FATAL_ERROR "Failed: ${names}")
endif()
