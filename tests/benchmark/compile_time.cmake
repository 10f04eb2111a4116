# The cost of including the library, of instantiating families and of linking a small loader,
# compared with an empty file in the same run.
#
#     cmake [-DCXX=g++] [-DROUNDS=7] [-DWORK=directory] -P tests/benchmark/compile_time.cmake
#
# or the build target compile_time. Reports only; never fails on slowness. Times are wall-clock
# medians of interleaved rounds: run it on a quiet machine.
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
include("${source}/tests/support/tools.cmake")
if(NOT CXX)
    set(CXX c++)
endif()
if(NOT ROUNDS)
    set(ROUNDS 7)
endif()
if(NOT WORK)
    set(WORK "${source}/build/compile_time")
endif()
file(MAKE_DIRECTORY "${WORK}")

# 50 families with their own layouts, planned in both directions.
set(families 50)
set(includes "#include <safefuse/run/fuse.hpp>\n#include <safefuse/models/standard.hpp>\n"
    "#include <safefuse/plan/scopes.hpp>\n")
list(JOIN includes "" includes)
set(text "${includes}\nnamespace sf = safefuse;\nusing namespace sf::layouts;\n")
math(EXPR last "${families} - 1")
foreach(i RANGE ${last})
    math(EXPR kind "${i} % 3")
    set(gate_up "sf::concat<0, gate, up>")
    set(down "down")
    if(kind EQUAL 1)
        set(gate_up "sf::interleave<0, 1, gate, up>")
    elseif(kind EQUAL 2)
        set(gate_up "sf::transpose<0, 1, sf::concat<0, up, gate>>")
        set(down "sf::transpose<0, 1, down>")
    endif()
    string(APPEND text
        "using stored_${i} = sf::layout<sf::module_suffixes, sf::tensor<\"{i}.g${i}\", gate>,\n"
        "    sf::tensor<\"{i}.u${i}\", up>, sf::tensor<\"{i}.d${i}\", down>>;\n"
        "using fused_${i} = sf::layout<sf::parameter_suffixes,\n"
        "    sf::tensor<\"gate_up_${i}\", sf::stack<${gate_up}>>,\n"
        "    sf::tensor<\"down_${i}\", sf::stack<${down}>>>;\n"
        "struct family_${i} : sf::family<\"family_${i}\", stored_${i}, fused_${i}> {\n"
        "    static constexpr sf::rename_description renames[] = {\n"
        "        sf::rename(\"block_${i}\", \"mlp\")};\n};\n")
endforeach()
string(APPEND text "sf::result<sf::copy_plan> plan(const sf::tensor_list& set, int which) {\n"
    "    switch (which) {\n")
foreach(i RANGE ${last})
    math(EXPR back "${i} + ${families}")
    string(APPEND text "    case ${i}: return sf::plan<family_${i}>(set, \"x\");\n"
        "    case ${back}: return sf::plan<family_${i}>(set, \"x\", sf::direction::inverse);\n")
endforeach()
string(APPEND text "    }\n    return sf::failure{.code = sf::errc::no_experts};\n}\n")
file(WRITE "${WORK}/families.cpp" "${text}")
file(WRITE "${WORK}/no_families.cpp" "${includes}")
file(WRITE "${WORK}/empty.cpp" "")
file(WRITE "${WORK}/umbrella.cpp" "#include <safefuse/safefuse.hpp>\n")
file(WRITE "${WORK}/fuse.cpp"
    "#include <safefuse/layout/layout.hpp>\n#include <safefuse/run/fuse.hpp>\n")
file(WRITE "${WORK}/std.cpp" "#include <string_view>\n#include <utility>\n#include <concepts>\n")

set(files empty std fuse umbrella no_families families)
set(flags_no_families -O2 -c -o "${WORK}/object.o")
set(flags_families -O2 -c -o "${WORK}/object.o")
foreach(round RANGE 1 ${ROUNDS})
    foreach(file IN LISTS files)
        set(flags -fsyntax-only)
        if(DEFINED flags_${file})
            set(flags ${flags_${file}})
            if(round GREATER 3)
                continue()
            endif()
        endif()
        string(TIMESTAMP begin "%s%f")
        execute_process(COMMAND "${CXX}" -std=c++20 "-I${source}/include" ${flags}
            "${WORK}/${file}.cpp" COMMAND_ERROR_IS_FATAL ANY)
        string(TIMESTAMP end "%s%f")
        math(EXPR took "(${end} - ${begin}) / 1000")
        list(APPEND times_${file} ${took})
    endforeach()
endforeach()
foreach(file IN LISTS files)
    list(SORT times_${file} COMPARE NATURAL)
    list(LENGTH times_${file} count)
    math(EXPR middle "${count} / 2")
    list(GET times_${file} ${middle} median_${file})
    list(GET times_${file} 0 best_${file})
endforeach()

execute_process(COMMAND "${CXX}" --version OUTPUT_VARIABLE version)
string(REGEX MATCH "^[^\n]*" version "${version}")
say("${version}")
function(report what file base budget)
    math(EXPR median "${median_${file}} - ${median_${base}}")
    math(EXPR best "${best_${file}} - ${best_${base}}")
    say("${what}: ${median} ms more than ${base}.cpp (best of all rounds ${best}),"
        "budget ${budget}")
endfunction()
report("the headers of the standard library that all others include" std empty "none")
report("#include <safefuse/layout/layout.hpp> and <safefuse/run/fuse.hpp>" fuse empty "150 ms")
report("#include <safefuse/safefuse.hpp>" umbrella empty "400 ms")
report("${families} families of their own layouts, planned both ways, -O2" families no_families
    "3000 ms")
foreach(level IN ITEMS -O2 -Os)
    execute_process(COMMAND "${CXX}" -std=c++20 "-I${source}/include" ${level} -s
        "${source}/examples/learn/05_fuse_one_layer.cpp" -o "${WORK}/program"
        COMMAND_ERROR_IS_FATAL ANY)
    file(SIZE "${WORK}/program" bytes)
    math(EXPR kibibytes "(${bytes} + 512) / 1024")
    say("05_fuse_one_layer, ${level}, stripped: ${kibibytes} KiB, budget 150 KiB at -O2")
endforeach()
