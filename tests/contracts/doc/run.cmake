# Makes the reference pages with Doxygen, which must have nothing to warn of: every public entity is documented.
#   cmake -DOUTPUT=directory -P run.cmake
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_program(doxygen doxygen)
if(NOT doxygen)
    message("skipped: there is no doxygen")
    return()
endif()
file(REMOVE_RECURSE "${OUTPUT}")
file(COPY "${source}/include" DESTINATION "${OUTPUT}/copy")

# Of the families Doxygen is shown the names and what is said of them: the members that they all have are documented where
# family.hpp says what a family declares, and the layouts of their modules are read in the file itself.
file(GLOB families "${OUTPUT}/copy/include/safefuse/models/families/*.hpp")
foreach(file IN LISTS families)
file(READ "${file}" text)
string(REGEX REPLACE "\n(///[^\n]*\n)*(template [^\n]*\n)?using [^;]*;" "" text "${text}")
string(REGEX REPLACE "\n(///[^\n]*\n)*(template [^\n]*\n)?using [^;]*;" "" text "${text}")
string(REGEX REPLACE "\n    (using|static constexpr) [^;]*;" "" text "${text}")
file(WRITE "${file}" "${text}")
endforeach()

file(READ "${CMAKE_CURRENT_LIST_DIR}/Doxyfile" options)
string(APPEND options "
INPUT                  = \"${OUTPUT}/copy/include/safefuse\"
INCLUDE_PATH           = \"${OUTPUT}/copy/include\"
STRIP_FROM_PATH        = \"${OUTPUT}/copy/include\"
STRIP_FROM_INC_PATH    = \"${OUTPUT}/copy/include\"
OUTPUT_DIRECTORY       = \"${OUTPUT}\"
")
file(WRITE "${OUTPUT}/Doxyfile" "${options}")
execute_process(COMMAND "${doxygen}" "${OUTPUT}/Doxyfile" RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
string(REPLACE "${OUTPUT}/copy/" "" said "${said}")
if(failed OR said MATCHES "warning: ")
    message("${said}")
    message(FATAL_ERROR "Doxygen has something to say")
endif()
file(REMOVE_RECURSE "${OUTPUT}/copy")
file(GLOB pages "${OUTPUT}/*.html")
list(LENGTH pages count)
message("${count} pages, no warnings")
