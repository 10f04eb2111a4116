// Checkpoints as large as the largest on the hub that need almost no disk: headers are complete,
// tensors are holes in sparse files.
#ifndef SAFEFUSE_TESTS_BENCHMARK_SYNTHETIC_HPP
#define SAFEFUSE_TESTS_BENCHMARK_SYNTHETIC_HPP

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <safefuse/format/header.hpp>
#include <safefuse/format/header_writer.hpp>
#include <safefuse/format/shard_index.hpp>

namespace synthetic {

namespace fs = std::filesystem;
namespace sf = safefuse;

struct tensor {
    std::string name;
    sf::dtype type;
    std::vector<std::uint64_t> shape;
    std::uint32_t shard = 0;
};

/// Tensors of Kimi-K2 or DeepSeek-V3: FP8 with scales of 128 x 128 blocks. 61 layers of 384 experts
/// are 139,583 tensors. A shard contains one layer, or several if there are fewer shards. Some
/// tools cannot map a file of 17 GB: with `narrow`, a file has 70 MB.
inline std::vector<tensor> kimi_k2(std::uint64_t layers = 61, std::uint64_t experts = 384,
                                   std::uint32_t shards = 61, bool narrow = false) {
    const std::uint64_t hidden = narrow ? 448 : 7168, inner = narrow ? 128 : 2048, block = 128;
    std::vector<tensor> out;
    out.reserve(static_cast<std::size_t>(layers * (experts * 6 + 30)));
    std::uint32_t shard = 0;
    const auto plain = [&](std::string name, sf::dtype type, std::vector<std::uint64_t> shape) {
        out.push_back({std::move(name), type, std::move(shape), shard});
    };
    const auto matrix = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        plain(name + ".weight", sf::dtype::f8_e4m3, {rows, columns});
        plain(name + ".weight_scale_inv", sf::dtype::f32,
              {(rows + block - 1) / block, (columns + block - 1) / block});
    };
    const auto gated = [&](const std::string& prefix, std::uint64_t size) {
        matrix(prefix + ".gate_proj", size, hidden);
        matrix(prefix + ".up_proj", size, hidden);
        matrix(prefix + ".down_proj", hidden, size);
    };
    plain("model.embed_tokens.weight", sf::dtype::bf16, {163840, hidden});
    for (std::uint64_t l = 0; l < layers; ++l) {
        shard = static_cast<std::uint32_t>(l * shards / layers);
        const std::string layer = "model.layers." + std::to_string(l) + '.';
        plain(layer + "input_layernorm.weight", sf::dtype::bf16, {hidden});
        plain(layer + "post_attention_layernorm.weight", sf::dtype::bf16, {hidden});
        plain(layer + "self_attn.q_a_layernorm.weight", sf::dtype::bf16, {1536});
        plain(layer + "self_attn.kv_a_layernorm.weight", sf::dtype::bf16, {512});
        matrix(layer + "self_attn.q_a_proj", 1536, hidden);
        matrix(layer + "self_attn.q_b_proj", 12288, 1536);
        matrix(layer + "self_attn.kv_a_proj_with_mqa", 576, hidden);
        matrix(layer + "self_attn.kv_b_proj", 16384, 512);
        matrix(layer + "self_attn.o_proj", hidden, 8192);
        if (l == 0) {
            gated(layer + "mlp", 18432);
            continue;
        }
        plain(layer + "mlp.gate.weight", sf::dtype::bf16, {experts, hidden});
        plain(layer + "mlp.gate.e_score_correction_bias", sf::dtype::f32, {experts});
        gated(layer + "mlp.shared_experts", inner);
        for (std::uint64_t e = 0; e < experts; ++e)
            gated(layer + "mlp.experts." + std::to_string(e), inner);
    }
    plain("model.norm.weight", sf::dtype::bf16, {hidden});
    plain("lm_head.weight", sf::dtype::bf16, {163840, hidden});
    return out;
}

/// The header of a file with these tensors, as the reference implementation writes it.
inline sf::result<sf::encoded_header> encode(const std::vector<const tensor*>& tensors) {
    std::vector<sf::tensor_spec> specs;
    for (const tensor* each : tensors) specs.push_back({each->name, each->type, each->shape});
    const sf::metadata_entry format[] = {{"format", "pt"}};
    return sf::encode_header({specs.data(), specs.size()}, format);
}
inline sf::result<sf::encoded_header> encode(const std::vector<tensor>& tensors) {
    std::vector<const tensor*> all;
    for (const tensor& each : tensors) all.push_back(&each);
    return encode(all);
}

inline bool write_file(const fs::path& path, const sf::vector<std::byte>& bytes,
                       std::uint64_t file_bytes) {
    std::ofstream file{path, std::ios::binary};
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    file.close();
    std::error_code error;
    if (file) fs::resize_file(path, file_bytes, error);
    return file && !error;
}

struct written {
    std::size_t tensors = 0;
    std::uint64_t header_bytes = 0, index_bytes = 0;
    bool good = false;
};

/// Writes shards and, if there are several, their index.
inline written write_checkpoint(const fs::path& directory, const std::vector<tensor>& tensors) {
    written out{.tensors = tensors.size()};
    std::uint32_t shards = 0;
    for (const tensor& each : tensors) shards = std::max(shards, each.shard + 1);
    std::vector<std::vector<const tensor*>> by_shard(shards);
    for (const tensor& each : tensors) by_shard[each.shard].push_back(&each);
    fs::create_directories(directory);
    std::vector<std::string> files;
    std::uint64_t total_bytes = 0;
    for (std::uint32_t s = 0; s < shards; ++s) {
        files.push_back(sf::shard_name("model", s + 1, shards).c_str());
        const auto header = encode(by_shard[s]);
        if (!header || !write_file(directory / files.back(), header->bytes, header->file_bytes))
            return out;
        out.header_bytes += header->bytes.size();
        total_bytes += header->file_bytes - header->bytes.size();
    }
    if (shards > 1) {
        std::vector<sf::shard_entry> entries;
        for (const tensor& each : tensors) entries.push_back({each.name, files[each.shard]});
        const auto index = sf::encode_index({entries.data(), entries.size()}, total_bytes);
        if (!index ||
            !write_file(directory / "model.safetensors.index.json", *index, index->size()))
            return out;
        out.index_bytes = index->size();
    }
    out.good = true;
    return out;
}

}  // namespace synthetic

#endif
