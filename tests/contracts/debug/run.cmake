# Compares gdb's output with safefuse_gdb.py with the expected output.
#   cmake -DCXX=g++ [-DCXX_FLAGS=…] -DINCLUDE=include -DWORK=directory -P run.cmake
cmake_minimum_required(VERSION 3.24)
find_program(gdb gdb)
if(NOT gdb)
    message("skipped: there is no gdb")
    return()
endif()
execute_process(COMMAND "${gdb}" -nx -batch -ex "python print('py' + 'thon')"
    OUTPUT_VARIABLE said ERROR_QUIET)
if(NOT said MATCHES "python")
    message("skipped: this gdb has no Python")
    return()
endif()
separate_arguments(flags NATIVE_COMMAND "${CXX_FLAGS}")
file(MAKE_DIRECTORY "${WORK}")
execute_process(COMMAND "${CXX}" ${flags} -std=c++20 -g -O0 "-I${INCLUDE}"
    "${CMAKE_CURRENT_LIST_DIR}/shown.cpp" -o "${WORK}/shown"
    COMMAND_ERROR_IS_FATAL ANY)
set(prints)
foreach(variable IN ITEMS name nothing view refused inner failure done)
    list(APPEND prints -ex "print ${variable}")
endforeach()
execute_process(COMMAND "${gdb}" -nx -batch -ex "set print frame-arguments none" -ex
    "source ${INCLUDE}/safefuse/safefuse_gdb.py"
    -ex "break stop_here" -ex run -ex up ${prints} "${WORK}/shown" OUTPUT_VARIABLE said
    ERROR_VARIABLE errors)
if(NOT said MATCHES "Breakpoint 1, ")
    message("skipped: gdb cannot run programs here\n${said}${errors}")
    return()
endif()
string(FIND "${said}" "\$1 = " begin)
string(SUBSTRING "${said}" ${begin} -1 said)
set(wanted
    "[$]1 = \"model.norm.weight\"\n"
    "[$]2 = \"\"\n"
    "[$]3 = success = {value_ = bf16 \\[2, 3\\], 12 bytes at 0x[0-9a-f]+}\n"
    "[$]4 = failure = {error_ = wrong_buffer_size, expected 24, actual 12}\n"
    "[$]5 = bf16 \\[2, 3\\], 12 bytes at 0x[0-9a-f]+\n"
    "[$]6 = data_truncated, file \"a.safetensors\", tensor \"t\", expected 12, actual 8, os_error 5"
    "[$]7 = success\n")
foreach(text IN LISTS wanted)
    if(NOT said MATCHES "${text}")
        message("${said}")
        message(FATAL_ERROR "gdb does not say ${text}")
    endif()
endforeach()
message("${said}")
