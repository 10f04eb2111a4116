# Makes the reference pages with Doxygen, which must have nothing to warn of: every public entity is
# documented. The folder pages (README.md and its like) are among them.
#   cmake -DOUTPUT=directory -P run.cmake
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
get_filename_component(OUTPUT "${OUTPUT}" ABSOLUTE)
find_program(doxygen doxygen)
if(NOT doxygen)
    message("skipped: there is no doxygen")
    return()
endif()
file(REMOVE_RECURSE "${OUTPUT}")
file(COPY "${source}/include" DESTINATION "${OUTPUT}/copy" PATTERN "README.md" EXCLUDE)

# The inline namespace does not show, nor do calls that are deleted for temporaries, and each
# labelled line of a comment ("fails   bad_json") is a paragraph with a title.
file(GLOB_RECURSE headers "${OUTPUT}/copy/*.hpp")
foreach(header IN LISTS headers)
    file(READ "${header}" text)
    string(REPLACE "inline namespace SAFEFUSE_ABI {\n" "\n" text "${text}")
    string(REPLACE "}  // namespace SAFEFUSE_ABI\n" "\n" text "${text}")
    string(REGEX REPLACE "\n( *)///   ([a-z_]+)  +" "\n\\1/// @par \\2\n\\1/// " text "${text}")
    string(REGEX REPLACE "([;{}])(\n[^\n;/]*const&& = delete;)+" "\\1" text "${text}")
    file(WRITE "${header}" "${text}")
endforeach()

# Doxygen sees the names of the families and what is said of them. family.hpp documents the members
# that all of them have, and the layouts of their modules are read in the file itself.
file(GLOB families "${OUTPUT}/copy/include/safefuse/models/families/*.hpp")
foreach(file IN LISTS families)
    file(READ "${file}" text)
    string(REGEX REPLACE "\n(///[^\n]*\n)*(template [^\n]*\n)?using [^;]*;" "" text "${text}")
    string(REGEX REPLACE "\n(///[^\n]*\n)*(template [^\n]*\n)?using [^;]*;" "" text "${text}")
    string(REGEX REPLACE "\n    (using|static constexpr) [^;]*;" "" text "${text}")
    file(WRITE "${file}" "${text}")
endforeach()

# The folder pages. Doxygen knows a page by a label, so each gets one, and links between pages
# become references. Links to files become the file's name.
set(pages README.md include/safefuse/README.md include/safefuse/layout/README.md
    include/safefuse/models/README.md examples/README.md examples/gpu/README.md tests/README.md
    tests/benchmark/README.md tests/conformance/README.md tests/interop/README.md
    .github/CONTRIBUTING.md .github/SECURITY.md .github/CHANGELOG.md)
function(label result page)
    string(MAKE_C_IDENTIFIER "page_${page}" name)
    set(${result} ${name} PARENT_SCOPE)
endfunction()
set(number 10)
foreach(page IN LISTS pages)
    if(NOT EXISTS "${source}/${page}")
        message(FATAL_ERROR "there is no ${page}")
    endif()
    file(READ "${source}/${page}" text)
    get_filename_component(folder "${source}/${page}" DIRECTORY)
    label(name "${page}")
    if(NOT page STREQUAL "README.md")
        string(REGEX REPLACE "^# ([^\n]*)\n" "# \\1 {#${name}}\n" text "${text}")
    endif()
    # A picture for light and dark screens is one for light screens here.
    string(REGEX REPLACE "<picture>.*<img alt=\"([^\"]*)\" src=\"([^\"]*)\">\n</picture>"
        "![\\1](\\2)"
        text "${text}")
    string(REGEX REPLACE "<!--[^\n]*-->\n" "" text "${text}")
    # A bracket of its own would upset CMake's lists.
    string(REPLACE "](" "%LINK%(" text "${text}")
    string(REGEX MATCHALL "%LINK%\\([^)]*\\)" links "${text}")
    list(REMOVE_DUPLICATES links)
    foreach(link IN LISTS links)
        string(REGEX REPLACE "^%LINK%\\((.*)\\)$" "\\1" target "${link}")
        string(REGEX REPLACE "#.*$" "" path "${target}")
        if(target MATCHES "^https?:")
            continue()
        elseif(path MATCHES "\\.svg$")
            string(REPLACE "/" "-" file "${number}-${path}")
            configure_file("${folder}/${path}" "${OUTPUT}/pictures/${file}" COPYONLY)
            string(REPLACE "${link}" "](${file})" text "${text}")
            continue()
        endif()
        if(path STREQUAL "")
            set(path "${source}/${page}")
        else()
            get_filename_component(path "${folder}/${path}" ABSOLUTE)
        endif()
        file(RELATIVE_PATH path "${source}" "${path}")
        if(IS_DIRECTORY "${source}/${path}" AND EXISTS "${source}/${path}/README.md")
            string(APPEND path "/README.md")
        endif()
        if(path STREQUAL "README.md")
            string(REPLACE "${link}" "](index.html)" text "${text}")
        elseif(path IN_LIST pages)
            label(to "${path}")
            string(REPLACE "${link}" "](@ref ${to})" text "${text}")
        else()
            string(REPLACE "${link}" "%FILE%" text "${text}")
            string(REGEX REPLACE "\\[([^][]*)%FILE%" "\\1" text "${text}")
        endif()
    endforeach()
    string(REPLACE "%LINK%(" "](" text "${text}")
    # Doxygen orders pages by the names of their files.
    if(page STREQUAL "README.md")
        file(WRITE "${OUTPUT}/copy/pages/README.md" "${text}")
    else()
        file(WRITE "${OUTPUT}/copy/pages/${number}-${name}.md" "${text}")
    endif()
    math(EXPR number "${number} + 1")
endforeach()

# The version names the inline namespace.
file(STRINGS "${source}/include/safefuse/core/version.hpp" abi REGEX "^#define SAFEFUSE_ABI ")
string(REGEX REPLACE "^.* " "" abi "${abi}")
file(READ "${CMAKE_CURRENT_LIST_DIR}/Doxyfile" options)
string(APPEND options "
INPUT                  = \"${OUTPUT}/copy/pages\" \"${OUTPUT}/copy/include/safefuse\"
INCLUDE_PATH           = \"${OUTPUT}/copy/include\"
STRIP_FROM_PATH        = \"${OUTPUT}/copy/include\"
STRIP_FROM_INC_PATH    = \"${OUTPUT}/copy/include\"
IMAGE_PATH             = \"${OUTPUT}/pictures\"
OUTPUT_DIRECTORY       = \"${OUTPUT}\"
HTML_EXTRA_STYLESHEET  = \"${CMAKE_CURRENT_LIST_DIR}/style.css\"
PROJECT_NUMBER         = ${abi}
PREDEFINED             = SAFEFUSE_LIFETIMEBOUND= SAFEFUSE_NOINLINE= SAFEFUSE_COLD=
")
file(WRITE "${OUTPUT}/Doxyfile" "${options}")
execute_process(COMMAND "${doxygen}" "${OUTPUT}/Doxyfile"
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
string(REPLACE "${OUTPUT}/copy/" "" said "${said}")
if(failed OR said MATCHES "warning: ")
    message("${said}")
    message(FATAL_ERROR "Doxygen has something to say")
endif()
file(REMOVE_RECURSE "${OUTPUT}/copy" "${OUTPUT}/pictures")
file(GLOB made "${OUTPUT}/*.html")
list(LENGTH made count)
message("${count} pages, no warnings")
