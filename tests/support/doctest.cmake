# Finds doctest: installed, from Debian's package, or downloaded.
cmake_minimum_required(VERSION 3.24)

# Downloads doctest's header into a folder below `folder` and sets `result` to that; stops where it
# cannot be had.
function(download_doctest result folder)
    set(header "${folder}/downloaded/doctest/doctest.h")
    set(hash 44faa038e9c3f9728efbda143748d01124ea0a27f4bf78f35a15d8fab2e039fb)
    set(found)
    if(EXISTS "${header}")
        file(SHA256 "${header}" found)
    endif()
    if(NOT found STREQUAL hash)
        file(DOWNLOAD
            https://raw.githubusercontent.com/doctest/doctest/ae7a13539fb71f270b87eb2e874fbac80bc8dda2/doctest/doctest.h
            "${header}.part" TIMEOUT 20 STATUS status)
        if(EXISTS "${header}.part")
            file(SHA256 "${header}.part" found)
        endif()
        if(NOT found STREQUAL hash)
            list(GET status 1 reason)
            file(REMOVE "${header}.part")
            message(FATAL_ERROR
                "The tests need doctest, which is not installed and could not be downloaded "
                "(${reason}): install it, "
                "on Debian with \"apt-get install doctest-dev\", and start again.")
        endif()
        file(RENAME "${header}.part" "${header}")
    endif()
    set(${result} "${folder}/downloaded" PARENT_SCOPE)
endfunction()

# Sets `result` to the directory that holds doctest/doctest.h. Debian's package is installed where
# this user may; `folder` takes a download. Offline each way fails at once.
function(find_doctest result folder)
    find_path(doctest_dir doctest/doctest.h PATHS /usr/include /usr/local/include
        /opt/homebrew/include NO_CACHE)
    find_program(apt_get apt-get NO_CACHE)
    if(NOT doctest_dir AND apt_get)
        find_program(sudo sudo NO_CACHE)
        execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
        set(as_root)
        if(NOT user STREQUAL "0" AND sudo)
            set(as_root "${sudo}" -n)
        endif()
        if(user STREQUAL "0" OR sudo)
            say("  it is not installed: trying apt-get install doctest-dev, up to a minute")
            set(apt_get ${as_root} "${CMAKE_COMMAND}" -E env DEBIAN_FRONTEND=noninteractive
                "${apt_get}" -qq -o Acquire::Retries=0
                -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10)
            set(quietly TIMEOUT 120 RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
            execute_process(
                COMMAND ${apt_get} install -y --no-install-recommends doctest-dev ${quietly})
            if(failed)
                execute_process(COMMAND ${apt_get} -o APT::Update::Error-Mode=any update ${quietly})
                if(NOT failed)
                    execute_process(COMMAND ${apt_get} install
                        -y --no-install-recommends doctest-dev ${quietly})
                endif()
            endif()
            find_path(doctest_dir doctest/doctest.h PATHS /usr/include NO_CACHE)
        endif()
    endif()
    if(NOT doctest_dir)
        say("  it cannot be installed here: downloading its header, up to 20 seconds")
        download_doctest(doctest_dir "${folder}")
    endif()
    set(${result} "${doctest_dir}" PARENT_SCOPE)
endfunction()
