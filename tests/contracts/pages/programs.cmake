# Every program on a page (```cpp) compiles with all warnings and runs on a good checkpoint.
# README's run on bad ones too: readme.test.cpp.
cmake_minimum_required(VERSION 3.24)
file(GLOB_RECURSE pages CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
    ${PROJECT_SOURCE_DIR}/include/*.md ${PROJECT_SOURCE_DIR}/examples/*.md
    ${PROJECT_SOURCE_DIR}/tests/*.md ${PROJECT_SOURCE_DIR}/.github/*.md)
list(PREPEND pages README.md)
foreach(page IN LISTS pages)
    file(READ ${PROJECT_SOURCE_DIR}/${page} text)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${page})
    # include/safefuse/models/README.md gives models_readme_1
    cmake_path(GET page STEM stem)
    cmake_path(GET page PARENT_PATH folder)
    cmake_path(GET folder FILENAME folder)
    string(MAKE_C_IDENTIFIER "${folder}_${stem}" stem)
    string(TOLOWER "${stem}" stem)
    string(REGEX REPLACE "^_+" "" stem "${stem}")
    set(number 0)
    string(FIND "${text}" "```cpp\n" begin)
    while(NOT begin EQUAL -1)
        math(EXPR begin "${begin} + 7")
        string(SUBSTRING "${text}" ${begin} -1 text)
        string(FIND "${text}" "\n```" end)
        string(SUBSTRING "${text}" 0 ${end} program)
        math(EXPR number "${number} + 1")
        set(name ${stem}_${number})
        set(source ${CMAKE_CURRENT_BINARY_DIR}/readme/program_of_${name}.cpp)
        file(CONFIGURE OUTPUT ${source} CONTENT "${program}\n" @ONLY)
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE safefuse-dev)
        set_target_properties(${name} PROPERTIES
            RUNTIME_OUTPUT_DIRECTORY $<1:${CMAKE_CURRENT_BINARY_DIR}/readme>)
        add_test(NAME "${page}: program ${number}"
            COMMAND ${name} ${CMAKE_CURRENT_SOURCE_DIR}/data/transformers/qwen3_moe/checkpoint)
        string(SUBSTRING "${text}" ${end} -1 text)
        string(FIND "${text}" "```cpp\n" begin)
    endwhile()
    # Every command on it (```sh) runs, in the order of the page.
    if(SAFEFUSE_BUILD_EXAMPLES AND NOT CMAKE_CROSSCOMPILING AND NOT WIN32)
        file(READ ${PROJECT_SOURCE_DIR}/${page} text)
        if(text MATCHES "```sh\n")
            add_test(NAME "${page}: commands" COMMAND ${CMAKE_COMMAND}
                -DPAGE=${PROJECT_SOURCE_DIR}/${page} -DBUILD=${PROJECT_BINARY_DIR}
                -DWORK=${CMAKE_CURRENT_BINARY_DIR}/pages/${stem}
                -P ${CMAKE_CURRENT_SOURCE_DIR}/contracts/pages/commands.cmake)
            set_tests_properties("${page}: commands" PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
        endif()
    endif()
endforeach()
