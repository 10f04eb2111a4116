# Runs the example programs as a person would, and checks their exit status and output.
#
#     cmake -DBIN=directory-of-the-programs -DWORK=directory-to-use [-DSUFFIX=.exe]
#           [-DEMULATOR=what-runs-them] -P run.cmake
cmake_minimum_required(VERSION 3.24)
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
set(failures 0)

# try(STATUS TEXT PROGRAM ARGUMENT…): the exit status, and a regular expression that stdout and
# stderr together match.
function(try status text program)
    execute_process(COMMAND ${EMULATOR} "${BIN}/${program}${SUFFIX}" ${ARGN}
        WORKING_DIRECTORY "${WORK}" RESULT_VARIABLE got OUTPUT_VARIABLE out ERROR_VARIABLE err)
    list(JOIN ARGN " " arguments)
    if(NOT got EQUAL status OR NOT "${out}${err}" MATCHES "${text}")
        message(SEND_ERROR
            "${program} ${arguments}\nexit status ${got}, expected ${status}; "
            "expected words: ${text}\n${out}${err}")
    endif()
    # an error is one line on stderr that begins with "error: "; success has none
    if(status EQUAL 0 AND "${err}" MATCHES "error: ")
        message(SEND_ERROR "${program} ${arguments}: success, but\n${err}")
    elseif(NOT status EQUAL 0 AND NOT "${err}" MATCHES "(^|\n)error: [^\n]*\n$")
        message(SEND_ERROR "${program} ${arguments}: no one-sentence error on stderr, but\n${err}")
    endif()
endfunction()

# Every program says what it is for, and the lessons are all of examples/learn.
file(GLOB lessons RELATIVE "${CMAKE_CURRENT_LIST_DIR}/../../../examples/learn"
    "${CMAKE_CURRENT_LIST_DIR}/../../../examples/learn/*.cpp")
list(TRANSFORM lessons REPLACE "\\.cpp$" "")
foreach(program inspect make_checkpoint fuse_checkpoint unfuse_checkpoint repack_checkpoint
        verify_fused ${lessons})
    try(0 "^usage: ${program}" ${program} --help)
endforeach()
foreach(program inspect make_checkpoint fuse_checkpoint unfuse_checkpoint repack_checkpoint
        verify_fused 01_read_a_header 02_list_a_checkpoint 03_view_a_tensor 04_plan_one_layer
        05_fuse_one_layer 06_every_layer
        07_models_tensors 11_write_a_checkpoint 12_use_threads)
    try(2 "error: " ${program})
endforeach()
try(2 "unknown option --frobnicate" inspect x --frobnicate)
try(2 "needs a value" make_checkpoint x --layers)
try(2 "whole number" make_checkpoint x --layers two)
try(2 "needs a size" make_checkpoint x --max-shard-size huge)
try(2 "unknown family" make_checkpoint x --family nobody)
try(2 "known, all or none" unfuse_checkpoint a b --side-files=some)
try(2 "mmap or pread" fuse_checkpoint a b --source telepathy)
try(2 "--resume keeps what --overwrite removes" fuse_checkpoint a b --resume --overwrite)
try(2 "--to must be model, hub, per-expert, stored or an engine" fuse_checkpoint a b --to telepathy)
try(2 "takes no --to" repack_checkpoint a b --to mlx)
try(2 "too many arguments" verify_fused a b c)
try(1 "no such file" inspect nowhere)

# There and back for every family, by both kinds of reading.
foreach(family qwen2_moe ernie4_5_moe exaone_moe granitemoe hy_v3 jamba lfm2_moe mixtral nemotron_h
    phimoe)
    try(0 "summary: " make_checkpoint ${family} --family ${family} --experts 11 --hidden 24
        --intermediate 16 --max-shard-size 50KB)
    try(0 "family ${family}.*problems   none" inspect ${family} --experts)
    try(0 "family ${family}" fuse_checkpoint ${family} ${family}.fused --max-shard-size 50KB
        --source pread)
    try(0 "each byte as in" verify_fused ${family} ${family}.fused)
    try(0 "fused" inspect ${family}.fused --experts)
    try(0 "written" unfuse_checkpoint ${family}.fused ${family}.back --max-shard-size 50KB)
    file(GLOB files RELATIVE "${WORK}/${family}" "${WORK}/${family}/*")
    file(GLOB files_back RELATIVE "${WORK}/${family}.back" "${WORK}/${family}.back/*")
    if(NOT files STREQUAL files_back)
        message(SEND_ERROR "${family}: ${files} came back as ${files_back}")
    endif()
    foreach(file IN LISTS files)
        file(SHA256 "${WORK}/${family}/${file}" before)
        file(SHA256 "${WORK}/${family}.back/${file}" after)
        if(NOT before STREQUAL after)
            message(SEND_ERROR "${family}: ${file} differs after fusing and unfusing")
        endif()
    endforeach()
endforeach()

# The loops of an engine: every layer, and every tensor by its final name.
set(output "layers[.]0[.]mlp[.]experts[.]gate_up_proj, ")
try(0 "layers[.]0[.]block_sparse_moe[.]experts\n  [^\n]*${output}" 06_every_layer mixtral mixtral)
try(0 "layers[.]1[.]mlp[.]experts[.]gate_up_proj, " 06_every_layer qwen2_moe)
try(1 "more than one model family fits .mixtral, phimoe." 06_every_layer mixtral)
try(1 "no experts of this layout found .family mixtral has them as .*; the names fit "
    06_every_layer qwen2_moe mixtral)
try(1 "unknown model family" 06_every_layer mixtral nobody)
try(1 "unknown model family" 06_every_layer mixtral.fused)
try(0 "layers[.]0[.]mlp[.]experts[.]gate_up_proj: made by a plan.* 100 %"
    07_models_tensors qwen2_moe)
try(1 "no such file" 07_models_tensors nowhere)

# A checkpoint for an engine is the same, made from the stored form or from the fused one. --to hub
# is unfuse_checkpoint.
foreach(way mlx vllm gguf hub)
    try(0 "written" fuse_checkpoint mixtral mixtral.${way} --to ${way} --family mixtral
        --max-shard-size 50KB)
    try(0 "written" fuse_checkpoint mixtral.fused mixtral.fused.${way} --to ${way}
        --max-shard-size 50KB)
    file(GLOB files RELATIVE "${WORK}/mixtral.${way}" "${WORK}/mixtral.${way}/*")
    if(NOT files)
        message(SEND_ERROR "mixtral.${way} holds nothing")
    endif()
    foreach(file IN LISTS files)
        file(SHA256 "${WORK}/mixtral.${way}/${file}" from_stored)
        file(SHA256 "${WORK}/mixtral.fused.${way}/${file}" from_fused)
        if(NOT from_stored STREQUAL from_fused)
            message(SEND_ERROR "${file} for ${way} is not the same from the fused checkpoint")
        endif()
    endforeach()
endforeach()

# F8 with block scales, other dtypes, one file.
foreach(dtype F8_E4M3 F16 F32)
    try(0 "in 1 file" make_checkpoint ${dtype} --dtype ${dtype} --experts 3 --hidden 128
        --intermediate 256)
    try(0 "written" fuse_checkpoint ${dtype} ${dtype}.fused)
    try(0 "each byte as in" verify_fused ${dtype} ${dtype}.fused)
endforeach()

# config.json is found beside an index or a file, too.
try(0 "model_type mixtral" inspect mixtral/model.safetensors.index.json)

# A dry run says what there would be and writes nothing; what it says comes true.
try(0 "would write .* in [0-9]+ files, and 1 other file.*enough" fuse_checkpoint qwen2_moe dry
    --max-shard-size 50KB --dry-run)
if(EXISTS "${WORK}/dry")
    message(SEND_ERROR "a dry run wrote something")
endif()
function(number result json key)
    string(JSON value ERROR_VARIABLE error GET "${json}" ${key})
    if(error)
        message(SEND_ERROR "no JSON with ${key}: ${json}")
    endif()
    set(${result} "${value}" PARENT_SCOPE)
endfunction()
execute_process(COMMAND ${EMULATOR} "${BIN}/fuse_checkpoint${SUFFIX}" qwen2_moe dry
    --max-shard-size 50KB --dry-run --json WORKING_DIRECTORY "${WORK}" OUTPUT_VARIABLE promised)
execute_process(COMMAND ${EMULATOR} "${BIN}/fuse_checkpoint${SUFFIX}" qwen2_moe dry
    --max-shard-size 50KB --json WORKING_DIRECTORY "${WORK}" OUTPUT_VARIABLE done)
foreach(key files size_bytes tensors side_files)
    number(before "${promised}" ${key})
    number(after "${done}" ${key})
    if(NOT before EQUAL after)
        message(SEND_ERROR "--dry-run promised ${before} ${key}, and there are ${after}")
    endif()
endforeach()
file(GLOB files "${WORK}/dry/*.safetensors")
list(LENGTH files count)
number(promised_files "${promised}" files)
if(NOT count EQUAL promised_files)
    message(SEND_ERROR "--dry-run promised ${promised_files} files, and there are ${count}")
endif()

# One tensor per file, and as many files as tensors.
try(0 "written" fuse_checkpoint mixtral mixtral.single --one-tensor-per-file)
try(0 "each byte as in" verify_fused mixtral mixtral.single)
try(0 "tensors    19 in 19 files" inspect mixtral.single)

# A repacked checkpoint has the same tensors, and its experts need no copy.
try(0 "\\(0%\\)" inspect mixtral)
try(0 "written" repack_checkpoint mixtral mixtral.repacked)
try(0 "\\(100%\\)" inspect mixtral.repacked)
try(0 "written" fuse_checkpoint mixtral.repacked mixtral.refused)
try(0 "each byte as in" verify_fused mixtral mixtral.refused)

# Paths are UTF-8 on every OS, and so are the names of files beside the tensors.
set(letters "äß-ж-中文-🧠")
try(0 "^${letters}: [0-9]+ tensors" make_checkpoint "${letters}" --layers 1 --experts 2 --hidden 24
    --intermediate 16)
file(WRITE "${WORK}/${letters}/${letters}.txt" "beside")
try(0 "model_type qwen3_moe" inspect "${letters}")
foreach(again IN ITEMS "" --overwrite)
    try(0 "${letters}.fused: written.* and 2 other files" fuse_checkpoint "${letters}"
        "${letters}.fused" --side-files=all ${again})
endforeach()
try(0 "each byte as in" verify_fused "${letters}" "${letters}.fused")
try(0 "written" unfuse_checkpoint "${letters}.fused" "${letters}.back" --link --side-files all)
try(0 "enough" fuse_checkpoint "${letters}" "${letters}.back/dry" --dry-run)
try(0 "would copy config.json.*left       ${letters}.txt: not a known part of a model folder"
    fuse_checkpoint "${letters}" dry2 --dry-run)
try(0 "gate_up_proj: " 05_fuse_one_layer "${letters}")
try(1 "it is the checkpoint to read" fuse_checkpoint "${letters}" "${letters}/../${letters}"
    --overwrite)
try(1 "error: ${letters}/nowhere: " inspect "${letters}/nowhere")
foreach(file IN ITEMS "${letters}.txt" config.json model.safetensors)
    file(SHA256 "${WORK}/${letters}/${file}" before)
    file(SHA256 "${WORK}/${letters}.back/${file}" after)
    if(NOT before STREQUAL after)
        message(SEND_ERROR "${file} differs after fusing and unfusing")
    endif()
endforeach()

# A number of experts that differs from config.json is reported once.
file(COPY "${WORK}/mixtral/" DESTINATION "${WORK}/pruned")
file(READ "${WORK}/pruned/config.json" config)
string(REPLACE "\"num_local_experts\": 11" "\"num_local_experts\": 12" config "${config}")
file(WRITE "${WORK}/pruned/config.json" "${config}")
try(1 "--any-expert-count" fuse_checkpoint pruned x)
try(0 "config.json says otherwise" inspect pruned)
try(0 "written" fuse_checkpoint pruned pruned.fused --any-expert-count)

# Unchanged files can be linked.
try(0 "of them hard links" fuse_checkpoint mixtral.fused linked --link --max-shard-size 50KB)
try(0 "each byte as in" verify_fused mixtral linked)

# Refusals.
try(1 "destination is not empty.*--overwrite" fuse_checkpoint mixtral mixtral.fused)
try(0 "written" fuse_checkpoint mixtral mixtral.fused --overwrite)
try(1 "it is the checkpoint to read" fuse_checkpoint mixtral mixtral --overwrite)

# A replaced checkpoint is the new one, other files in its directory stay, and nothing is left
# beside it.
file(WRITE "${WORK}/mixtral.fused/notes.txt" "mine")
file(COPY "${WORK}/mixtral.fused/" DESTINATION "${WORK}/replaced")
try(0 "written" fuse_checkpoint qwen2_moe replaced --overwrite --max-shard-size 50KB)
try(0 "each byte as in" verify_fused qwen2_moe replaced)
try(1 "destination is not empty" fuse_checkpoint qwen2_moe replaced --resume --max-shard-size 50KB)
file(READ "${WORK}/replaced/notes.txt" notes)
file(GLOB left "${WORK}/.replaced*" "${WORK}/replaced/.safefuse*")
if(NOT notes STREQUAL "mine" OR left)
    message(SEND_ERROR "notes: ${notes}; left behind: ${left}")
endif()
file(REMOVE "${WORK}/mixtral.fused/notes.txt")

# A source that consists of links to the destination's files is refused, and the only copy stays.
if(NOT CMAKE_HOST_WIN32 AND NOT EMULATOR)
    file(COPY "${WORK}/mixtral/" DESTINATION "${WORK}/only")
    file(GLOB files RELATIVE "${WORK}/only" "${WORK}/only/*")
    file(MAKE_DIRECTORY "${WORK}/links")
    foreach(file IN LISTS files)
        file(CREATE_LINK "../only/${file}" "${WORK}/links/${file}" SYMBOLIC)
    endforeach()
    try(1 "overlap.*is a file of it" fuse_checkpoint links only --overwrite)
    try(0 "problems   none" inspect only --experts)
endif()
try(0 "2 already have the wanted form" fuse_checkpoint mixtral.fused mixtral.again)
try(1 "unknown model family.*known are.*qwen2_moe" fuse_checkpoint mixtral x --family nobody)
file(REMOVE "${WORK}/mixtral.fused/config.json")
try(0 "fused already.*there is nothing to fuse" fuse_checkpoint mixtral.fused again)
try(1 "ambiguous|more than one model family fits.*--family" unfuse_checkpoint mixtral.fused x)
try(2 "--to must be model, hub, per-expert, stored or an engine"
    unfuse_checkpoint mixtral.fused x --to nowhere)
try(1 "error: " verify_fused mixtral F16.fused)
file(COPY "${WORK}/qwen2_moe/" DESTINATION "${WORK}/broken")
file(GLOB shards "${WORK}/broken/*-00002-of-*.safetensors")
file(REMOVE ${shards})
try(1 "00002.*is missing" inspect broken)
try(1 "00002.*is missing" fuse_checkpoint broken x)
if(EXISTS "${WORK}/x")
    message(SEND_ERROR "a refused run left something behind")
endif()

# Messages that end the search. Every program takes a family or a model type as --family.
foreach(program IN ITEMS inspect fuse_checkpoint unfuse_checkpoint repack_checkpoint verify_fused)
    set(second)
    if(NOT program STREQUAL "inspect")
        set(second x)
        if(program STREQUAL "verify_fused")
            set(second qwen2_moe.fused)
        endif()
    endif()
    if(NOT program STREQUAL "inspect")
        try(1 "unknown model family.*nobody: .*qwen2_moe"
            ${program} qwen2_moe ${second} --family nobody)
        try(1 "unknown model family.*nobody: .*qwen2_moe"
            ${program} qwen2_moe ${second} --layout=nobody)
    endif()
    try(2 "--family needs a value" ${program} qwen2_moe ${second} --family)
endforeach()
try(0 "family qwen2_moe, as requested|family qwen2_moe \\(model_type"
    inspect qwen2_moe --family qwen3_moe)
try(0 "family qwen2_moe" inspect qwen2_moe --layout qwen2_moe)
try(0 "each byte as in" verify_fused qwen2_moe qwen2_moe.fused --family qwen3_moe)
try(1 "the names are those of family qwen2_moe: --family qwen2_moe"
    verify_fused qwen2_moe qwen2_moe.fused --family llama4)
try(1 "are the arguments swapped" verify_fused qwen2_moe.fused qwen2_moe)
try(0 "2 already have the wanted form.*all files stay the same, byte for byte"
    fuse_checkpoint qwen2_moe.fused twice)
file(MAKE_DIRECTORY "${WORK}/cut")
file(WRITE "${WORK}/cut/model.safetensors" "no header")
try(1 "cut/model.safetensors: .*at byte [0-9]+ of the file|cut/model.safetensors: .*something else"
    inspect cut)
file(WRITE "${WORK}/cut/config.json" "{\"model_type\": \"qwen3_moe\",}")
file(COPY "${WORK}/qwen2_moe/" DESTINATION "${WORK}/bad_config" PATTERN config.json EXCLUDE)
file(COPY "${WORK}/cut/config.json" DESTINATION "${WORK}/bad_config")
try(1 "bad_config/config.json: .*trailing comma.*, at byte [0-9]+ of the file"
    fuse_checkpoint bad_config x)
file(COPY "${WORK}/qwen2_moe.fused/" DESTINATION "${WORK}/stopped")
file(WRITE "${WORK}/stopped/.safefuse-writing" "safefuse is writing a checkpoint here, or was: 0")
try(1 "stopped: .*interrupted or is still active.*--resume" fuse_checkpoint stopped x)
try(1 "stopped: .*interrupted" verify_fused qwen2_moe stopped)
execute_process(COMMAND ${EMULATOR} "${BIN}/inspect${SUFFIX}" stopped
    WORKING_DIRECTORY "${WORK}" RESULT_VARIABLE got OUTPUT_VARIABLE out)
if(NOT got EQUAL 1 OR NOT out MATCHES "problem +stopped: .*interrupted")
    message(SEND_ERROR "inspect says nothing of an interrupted run: ${got}\n${out}")
endif()

# JSON for scripts is JSON.
foreach(options "--json" "--json;--tensors")
    execute_process(COMMAND ${EMULATOR} "${BIN}/inspect${SUFFIX}" hy_v3 ${options}
        WORKING_DIRECTORY "${WORK}" OUTPUT_VARIABLE json)
    string(JSON count ERROR_VARIABLE error GET "${json}" tensor_count)
    if(error)
        message(SEND_ERROR "inspect ${options} printed no JSON: ${error}")
    endif()
endforeach()

# The lessons, in their order.
set(scope model.layers.1.mlp.experts)
set(line "tensor    ${scope}\\.0\\.up_proj\\.weight: F32 \\[256, 128\\], 131072 bytes at [0-9]+\n")
try(0 "^metadata  format: pt\n.*${line}"
    01_read_a_header F32/model.safetensors)
try(1 "nowhere: no such file" 01_read_a_header nowhere)
set(lines "^file    F32/model.safetensors: [0-9]+ tensors\nfamily  qwen2_moe\n")
try(0 "${lines}.*scope   ${scope}: 9 tensors\n"
    02_list_a_checkpoint F32)
try(1 "error: " 02_list_a_checkpoint mixtral.fused/nowhere)
try(0 "^F32, 1 axes, 512 bytes\n[^\n]+\n[^\n]+\n[^\n]+\n[^\n]+\n$" 03_view_a_tensor F32
    model.norm.weight)
try(0 "^BF16, 1 axes, 48 bytes\n[^\n]+\n[^\n]+\n[^\n]+\n[^\n]+\n$" 03_view_a_tensor hy_v3
    model.norm.weight)
try(1 "model\\.nrm\\.weight" 03_view_a_tensor F32 model.nrm.weight)
set(lines "^output  gate_up_proj: F32 \\[3, 512, 128\\]\noutput  down_proj: F32 \\[3, 128, 256\\]")
try(0 "${lines}\ncopy    file 0 at "
    04_plan_one_layer F32 ${scope})
try(1 "no experts" 04_plan_one_layer F32 model.layers.7.mlp.experts)
try(0 "gate_up_proj: " 05_fuse_one_layer qwen2_moe ${scope})
try(1 "no experts.*nearest of .*model.layers.[01].mlp.experts" 05_fuse_one_layer qwen2_moe
    model.layers.7.mlp.experts)
try(0 "^0\n1\n10\n11\n100\n101\n110\n111\n$" 08_your_tensor_type)
set(w13 "10 11 12 00 01 02 13 14 15 03 04 05 90 91 92 80 81 82 93 94 95 83 84 85")
try(0 "^w13: ${w13}\nw2: 20 22 24 21 23 25 a0 a2 a4 a1 a3 a5\n$"
    09_your_layout)
try(0 "model.layers.1.mlp.gate.weight\n" 10_your_source qwen2_moe)
try(1 "model.safetensors.index.json: reading or writing failed"
    10_your_source nowhere)
try(0 "^lesson/model-00001-of-00002.safetensors\nlesson/model-00002-of-00002.safetensors\n$"
    11_write_a_checkpoint lesson)
try(0 "tensors    3 in 2 files" inspect lesson)
try(1 "destination is not empty" 11_write_a_checkpoint lesson)
try(0 "^2 outputs, equal\n$" 12_use_threads F32 ${scope})
try(1 "no experts" 12_use_threads F32 model.layers.7.mlp.experts)
file(REMOVE_RECURSE "${WORK}")
