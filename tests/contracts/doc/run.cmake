# Makes the reference pages with Doxygen, without any warning: every public entity is documented.
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

# Doxygen sees only the names of families and their descriptions. Their common members are
# documented in family.hpp, and the layouts of their modules can be read in the file itself.
set(families "${OUTPUT}/copy/include/safefuse/models/transformers.hpp")
file(READ "${families}" text)
string(REGEX REPLACE "\n(///[^\n]*\n)*(template [^\n]*\n)?using [^;]*;" "" text "${text}")
string(REGEX REPLACE "\n(///[^\n]*\n)*(template [^\n]*\n)?using [^;]*;" "" text "${text}")
string(REGEX REPLACE "\n    (using|static constexpr) [^;]*;" "" text "${text}")
file(WRITE "${families}" "${text}")

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
