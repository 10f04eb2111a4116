// Writes seeds for the fuzz targets from the conformance suite: fuzz_corpus DIRECTORY creates one
// folder in it for each target.
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include "../conformance/suite.hpp"
#include "../support/support.hpp"
#include "fuzz.hpp"

namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_bytes = 16 * 1024;

void seed(const fs::path& directory, std::string_view name, std::string_view contents) {
    if (contents.size() > most_bytes) return;
    fs::create_directories(directory);
    std::string file{name};
    for (char& c : file)
        if (c == '/') c = '_';
    support::write_file(directory / file, contents);
}

/// A file in the input format of the target `checkpoint`.
std::string record(std::string_view name, std::string_view content) {
    bool is_framed = false;
    if (name.ends_with(".safetensors") && content.size() > 8) {
        const auto needed = safefuse::header::bytes_needed(fuzz::bytes_of(content));
        is_framed = needed && *needed <= content.size() &&
                    fuzz::file_of(content.substr(8, static_cast<std::size_t>(*needed) - 8), 1 << 12)
                            .size() == content.size();
        if (is_framed) content = content.substr(8, static_cast<std::size_t>(*needed) - 8);
    }
    if (content.size() > 0xFFFF || name.size() > 0xFF) return {};
    std::string out{is_framed ? '\1' : '\0'};
    out += static_cast<char>(name.size());
    out += static_cast<char>(content.size() & 0xFF);
    out += static_cast<char>(content.size() >> 8);
    return out.append(name).append(content);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fputs("usage: fuzz_corpus DIRECTORY\n", stderr);
        return 2;
    }
    const fs::path root = arguments[1];
    for (const conformance::header_case& each : conformance::header_cases())
        if (each.file_bytes() <= most_bytes)
            seed(root / "header", each.name,
                 each.head + std::string(static_cast<std::size_t>(each.spaces), ' ') +
                     std::string(static_cast<std::size_t>(each.zeros), '\0'));
    for (const conformance::index_case& each : conformance::index_cases()) {
        std::string packed;
        for (const auto& [file, contents] : each.files) {
            if (file.ends_with(".json"))
                seed(root / "shard_index", each.name + "-" + file, contents);
            if (file.starts_with("checkpoint/")) packed += record(file.substr(11), contents);
        }
        seed(root / "checkpoint", each.name, packed);
    }
    const std::pair<std::string_view, std::string_view> configs[] = {
        {"flat",
         R"({"model_type": "qwen3_moe", "num_experts": 128, "torch_dtype": "bfloat16", "rope": [1e6, null, true]})"},
        {"nested",
         R"({"model_type": "a\u00e9", "text_config": {"model_type": "b", "n_routed_experts": 8, "dtype": "float16"}})"},
        {"quantized",
         R"({"num_local_experts": 32, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})"},
        {"python",
         R"({"moe_num_experts": NaN, "limit": -Infinity, "top": Infinity, "model_type": "a\"NaN"})"},
    };
    for (const auto& [name, text] : configs) seed(root / "config", name, text);
    // Layouts with and without each field, valid and with steps that break them; plan.cpp explains
    // the bytes.
    for (char way = 0; way < 40; ++way)
        for (const char fields : {'\1', '\3', '\5', '\17'}) {
            const std::string start{way, 2, 4, 4, static_cast<char>(way % 3), fields};
            seed(root / "plan", std::to_string(int{way}) + "-" + std::to_string(int{fields}),
                 start);
            seed(root / "plan",
                 std::to_string(int{way}) + "-" + std::to_string(int{fields}) + "-steps",
                 start + std::string{way, 1, 3, fields, 2, 7});
        }
    // Four thousand million experts without elements; each would be a tensor.
    seed(root / "plan", "empty-experts", std::string_view{"\x02\xcd\x00\x04\x00\x01", 6});
    return 0;
}
