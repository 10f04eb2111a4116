# Copies the headers as another version of the library might have them: other numbers, another
# class, another sentence.
#   cmake -DINCLUDE=include -DOUTPUT=directory -P another_version.cmake
cmake_minimum_required(VERSION 3.24)
file(REMOVE_RECURSE "${OUTPUT}")
file(COPY "${INCLUDE}/safefuse" DESTINATION "${OUTPUT}")
function(change header from to)
    file(READ "${OUTPUT}/safefuse/${header}" text)
    string(REGEX REPLACE "${from}" "${to}" changed "${text}")
    if(changed STREQUAL text)
        message(FATAL_ERROR "${header} has no ${from}: this script wants another change to make")
    endif()
    file(WRITE "${OUTPUT}/safefuse/${header}" "${changed}")
endfunction()
change(core/version.hpp "SAFEFUSE_VERSION_MINOR [0-9]+" "SAFEFUSE_VERSION_MINOR 99")
change(core/version.hpp "SAFEFUSE_ABI v([0-9]+)_[0-9]+" "SAFEFUSE_ABI v\\1_99")
change(core/result.hpp "struct failure {"
    "struct failure {\n    const void* only_in_another_version = nullptr;\n    int and_this = 0;")
change(core/result.hpp "no such file or directory" "not a file that another version would find")
