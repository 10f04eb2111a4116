# Builds and runs tests/consume in one of its ways. cmake -DWAY=… -DWORK=… -DGENERATOR=… -DCXX=… -DCXX_FLAGS=… -P run.cmake
cmake_minimum_required(VERSION 3.24)
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
file(REMOVE_RECURSE "${WORK}")

set(common -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}")
function(run)
    execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

if(WAY STREQUAL "find_package")
    run("${CMAKE_COMMAND}" -S "${source}" -B "${WORK}/safefuse" ${common} -DSAFEFUSE_BUILD_EXAMPLES=OFF)
    run("${CMAKE_COMMAND}" --install "${WORK}/safefuse" --prefix "${WORK}/prefix")
endif()
run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${WORK}/build" ${common} -DWAY=${WAY}
    "-DSAFEFUSE_SOURCE=${source}" "-DCMAKE_PREFIX_PATH=${WORK}/prefix" "-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=$<1:${WORK}/bin>")
run("${CMAKE_COMMAND}" --build "${WORK}/build")
run("${WORK}/bin/loader")
