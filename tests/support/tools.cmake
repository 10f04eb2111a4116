# Functions that tests/run.cmake, examples/demo.cmake and other scripts share.
cmake_minimum_required(VERSION 3.24)

# Prints to stdout; message() prints to stderr, or adds dashes.
function(say)
    list(JOIN ARGN " " line)
    execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "${line}")
endfunction()

# unlike ARGN it keeps an argument that is a list in one piece
function(run_or_stop sentence)
    cmake_parse_arguments(PARSE_ARGV 1 run "" "" "")
    execute_process(COMMAND ${run_UNPARSED_ARGUMENTS} RESULT_VARIABLE failed)
    if(failed)
        message(FATAL_ERROR "${sentence}")
    endif()
endfunction()

# Options for the cmake that configures: the compiler and the generator. Stops where a fresh machine
# lacks one.
function(find_tools result)
    set(options)
    if(CXX)
        list(APPEND options "-DCMAKE_CXX_COMPILER=${CXX}")
    endif()
    if(CMAKE_HOST_UNIX)
        set(names c++ g++ clang++)
        if(CXX)
            set(names "${CXX}")
        elseif(DEFINED ENV{CXX})
            separate_arguments(names UNIX_COMMAND "$ENV{CXX}")
            list(GET names 0 names)
        endif()
        find_program(compiler NAMES ${names} NO_CACHE)
        if(NOT compiler)
            list(JOIN names ", " names)
            message(FATAL_ERROR
                "No C++ compiler found (${names}). Needed is one that knows "
                "C++20, such as g++ 12 or clang++ 14 "
                "(Debian: apt-get install g++); -DCXX=… before -P names one.")
        endif()
        if(NOT DEFINED ENV{CMAKE_GENERATOR})
            find_program(make NAMES gmake make NO_CACHE)
            find_program(ninja NAMES ninja ninja-build NO_CACHE)
            if(NOT make AND NOT ninja)
                message(FATAL_ERROR "Neither make nor ninja found (Debian: apt-get install make).")
            elseif(NOT make)
                list(APPEND options -G Ninja)
            endif()
        endif()
    endif()
    set(${result} "${options}" PARENT_SCOPE)
endfunction()

# The nvcc that NVCC names, that of the path, or that of PYTHON's package nvidia-cuda-nvcc, and its
# version; empty where there is none of 13 or later, the versions that the library was tried with.
function(find_nvcc program_result version_result)
    set(${program_result} "" PARENT_SCOPE)
    set(${version_result} "" PARENT_SCOPE)
    if(NOT PYTHON)
        set(PYTHON python3)
    endif()
    set(candidates "${NVCC}")
    if(NOT NVCC)
        find_program(nvcc nvcc NO_CACHE)
        set(candidates "${nvcc}")
        execute_process(COMMAND "${PYTHON}"
            -c "import nvidia; print(*(p + '/cu13/bin/nvcc' for p in nvidia.__path__), sep=';')"
            OUTPUT_VARIABLE packaged OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
        list(APPEND candidates ${packaged})
    endif()
    foreach(candidate IN LISTS candidates)
        if(candidate)
            execute_process(COMMAND "${candidate}" --version OUTPUT_VARIABLE text ERROR_QUIET)
            if(text MATCHES "release [0-9.]+, V([0-9.]+)" AND CMAKE_MATCH_1
                VERSION_GREATER_EQUAL 13)
                set(${program_result} "${candidate}" PARENT_SCOPE)
                set(${version_result} "${CMAKE_MATCH_1}" PARENT_SCOPE)
                return()
            endif()
        endif()
    endforeach()
endfunction()
