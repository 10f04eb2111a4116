// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the keys of config.json that say how experts are stored.
#ifndef SAFEFUSE_READ_MODEL_CONFIG_HPP
#define SAFEFUSE_READ_MODEL_CONFIG_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/first_bytes.hpp>
#include <safefuse/format/detail/json_cursor.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/path.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The keys under which configurations store the number of routed experts. The model type decides
/// which one counts.
inline constexpr std::string_view expert_count_keys[4] = {"num_experts", "n_routed_experts",
                                                          "num_local_experts", "moe_num_experts"};

/// What config.json says about a model. Missing texts are empty. These are only claims: the
/// checkpoint decides.
struct model_config {
    text model_type{};  ///< the key for looking up families, such as qwen3_moe
    /// the language model's type, from text_config, llm_config or language_config
    text text_model_type{};
    /// routed experts of a layer; layers of pruned checkpoints may have fewer
    std::uint64_t expert_count = unknown;
    /// The counts under the keys of expert_count_keys, in the same order; `unknown` if a key is
    /// missing. They are the language model's if it has any, otherwise those at the top level.
    std::uint64_t expert_counts[4] = {unknown, unknown, unknown, unknown};
    /// quantization_config.quant_method: fp8, mxfp4, compressed-tensors, ...
    text quantization{};
    text dtype_name{};  ///< dtype or torch_dtype, as written: bfloat16

    /// The number of routed experts under the key that configurations of this model type use;
    /// `unknown` if it is missing. For an unknown type, all keys present must agree.
    [[nodiscard]] std::uint64_t expert_count_for(std::string_view type) const noexcept;

    /// Parses the text of a config.json. As in Python, the last of repeated keys counts, and NaN
    /// and Infinity are numbers.
    ///   fails   bad_json, out_of_memory
    static result<model_config> parse(span<const std::byte> json) noexcept;
};

namespace detail {

/// Reads the same keys at the top level of config.json, in its text_config and in DBRX's
/// ffn_config.
class config_reader {
public:
    model_config top{}, inner{}, ffn{};

    /// Returns whether it was read. If not, `cursor` says why, or memory ran out.
    [[nodiscard]] bool read(json_cursor& cursor, model_config& into, bool is_top) noexcept {
        json_string key;
        std::uint64_t(&counts)[count_spellings] = into.expert_counts;
        for (cursor.enter_object(); cursor.next_member(key);) {
            bool taken = true;
            if (key == "model_type")
                taken = take_text(cursor, into.model_type);
            else if (key == "dtype" || (key == "torch_dtype" && into.dtype_name.empty()))
                taken = take_text(cursor, into.dtype_name);
            else if (is_top &&
                     (key == "text_config" || key == "llm_config" || key == "language_config") &&
                     cursor.peek() == json_kind::object)
                taken = read(cursor, inner = model_config{}, false);
            else if (is_top && key == "ffn_config" && cursor.peek() == json_kind::object)
                taken = read(cursor, ffn = model_config{}, false);
            else if (key == "quantization_config" && cursor.peek() == json_kind::object)
                taken = take_quantization(cursor, into.quantization);
            else
                take_count(cursor, key, counts);
            if (!taken) return false;
        }
        for (const std::uint64_t count : counts)
            if (into.expert_count == unknown) into.expert_count = count;
        return !cursor.failed();
    }

private:
    [[nodiscard]] static bool take_text(json_cursor& cursor, text& out) noexcept {
        if (cursor.peek() != json_kind::string) {
            out = text{};
            return cursor.skip_value();
        }
        json_string value;
        vector<char> decoded;
        if (!cursor.read_string(value) || !value.decode(decoded)) return false;
        out = text{detail::characters_at(decoded.data(), decoded.size())};
        return out.size() == decoded.size();
    }

    static constexpr std::size_t count_spellings = 4;

    /// Reads the value of a key that may be a count and is none of the others. Lists, null and
    /// floats are not counts.
    static void take_count(json_cursor& cursor, const json_string& key,
                           std::uint64_t (&counts)[count_spellings]) noexcept {
        for (std::size_t i = 0; i < count_spellings; ++i) {
            if (!(key == expert_count_keys[i])) continue;
            json_cursor probe = cursor;
            if (!probe.read_unsigned(counts[i])) counts[i] = unknown;
        }
        cursor.skip_value();
    }

    [[nodiscard]] static bool take_quantization(json_cursor& cursor, text& out) noexcept {
        json_string key;
        for (cursor.enter_object(); cursor.next_member(key);)
            if (!(key == "quant_method" ? take_text(cursor, out) : cursor.skip_value()))
                return false;
        return !cursor.failed();
    }
};

/// Overwrites NaN, Infinity and -Infinity outside strings with 0 and spaces: Python writes them,
/// but they are not valid JSON.
inline void blank_python_numbers(span<char> json) noexcept {
    const std::string_view view = detail::characters_at(json.data(), json.size());
    bool in_string = false;
    for (std::size_t i = 0; i < json.size(); ++i) {
        if (json[i] == '"') in_string = !in_string;
        if (in_string && json[i] == '\\') ++i;
        if (in_string || i >= json.size()) continue;
        for (const std::string_view word : {std::string_view{"NaN"}, std::string_view{"Infinity"},
                                            std::string_view{"-Infinity"}}) {
            if (!view.substr(i).starts_with(word) || (i > 0 && json[i - 1] == '-')) continue;
            json[i] = '0';
            for (std::size_t at = 1; at < word.size(); ++at) json[i + at] = ' ';
            i += word.size() - 1;
            break;
        }
    }
}

inline constexpr std::uint64_t most_config_bytes = std::uint64_t{64} << 20;

/// The characters of a config.json, with the numbers that are not valid JSON replaced.
inline result<vector<char>> config_characters(span<const std::byte> json) noexcept {
    vector<char> copy;
    if (!copy.append(reinterpret_cast<const char*>(json.data()), json.size()))
        return detail::lack_of_memory{};
    const std::string_view characters = detail::characters_at(copy.data(), copy.size());
    if (characters.starts_with("\xEF\xBB\xBF"))
        return failure{
            .code = errc::bad_json,
            .detail =
                "it begins with a UTF-8 byte order mark, which JSON does not allow; save it "
                "without one",
            .offset = 0};
    if (const std::string_view what = told_by_first_bytes(json); !what.empty()) {
        failure other{.code = errc::another_format, .detail = "it is "};
        other.detail.append(what);
        return other;
    }
    if (characters.empty())
        return failure{.code = errc::bad_json, .detail = "the file is empty", .offset = 0};
    if (const std::size_t valid = utf8_prefix(characters); valid != characters.size())
        return failure{.code = errc::bad_json, .detail = "not UTF-8", .offset = valid};
    blank_python_numbers(copy.view());
    return copy;
}

/// Reads the number under `key` in the next object. Dots in `key` separate nested objects. `number`
/// is unchanged if there is none.
inline void find_config_number(json_cursor& cursor, std::string_view key,
                               std::uint64_t& number) noexcept {
    const std::size_t dot = key.find('.');
    const bool is_last = dot == std::string_view::npos;
    json_string name;
    for (cursor.enter_object(); cursor.next_member(name);) {
        if (name == key.substr(0, dot) && !is_last && cursor.peek() == json_kind::object) {
            find_config_number(cursor, key.substr(dot + 1), number);
            continue;
        }
        if (name == key && is_last) {
            json_cursor probe = cursor;
            std::uint64_t read = 0;
            number = probe.read_unsigned(read) ? read : unknown;
        }
        cursor.skip_value();
    }
}

}  // namespace detail

namespace detail {

/// Which of expert_count_keys the configurations of a model type use, as bits; 0 if the type is
/// unknown.
///   source  transformers 5.17.0: defaults of its configuration classes; those of Qwen and Mellum
///           are stored under either key
constexpr unsigned expert_count_keys_of(std::string_view type) noexcept {
    constexpr std::string_view n_routed[] = {
        "deepseek_v2",      "deepseek_v3",   "deepseek_v32",  "dots1",
        "glm4_moe",         "glm4_moe_lite", "glm4v_moe",     "glm_moe_dsa",
        "solar_open",       "axk1",          "axk2",          "deepseek_ocr2",
        "deepseek_v4",      "glm5_next",     "hy_v4",         "kimi_k25",
        "kimi_k2",          "longcat_flash", "mimo_v2_flash", "mistral4",
        "inkling_mm_model", "nemotron_h",    "step3p7",       "inkling_text",
        "glm4v_moe_text"};
    constexpr std::string_view moe_num[] = {"aria", "aria_text", "dbrx", "ernie4_5_moe",
                                            "ernie4_5_vl_moe"};
    constexpr std::string_view num_local[] = {
        "gpt_oss", "granitemoe",  "granitemoehybrid", "granitemoeshared", "granitemoe_swa",
        "jetmoe",  "minimax",     "minimax_m2",       "minimax_m3_vl",    "minimax_m3_vl_text",
        "llama4",  "llama4_text", "mixtral",          "phimoe",           "openai_privacy_filter"};
    constexpr std::string_view either[] = {"qwen3_moe", "qwen3_vl_moe", "qwen3_vl_moe_text",
                                           "mellum"};
    constexpr std::string_view num[] = {
        "qwen2_moe",      "afmoe",     "cohere2_moe",    "flex_olmo",
        "hunyuan_v1_moe", "olmoe",     "qwen3_5_moe",    "qwen3_5_moe_text",
        "qwen3_next",     "zaya",      "qwen3_omni_moe", "qwen3_omni_moe_thinker",
        "exaone_moe",     "gemma4",    "gemma4_text",    "diffusion_gemma",
        "hy_v3",          "jamba",     "kimi_linear",    "laguna",
        "lfm2_moe",       "qwen4_exp", "qwen4_exp_text"};
    for (const std::string_view each : num)
        if (each == type) return 1;
    for (const std::string_view each : n_routed)
        if (each == type) return 2;
    for (const std::string_view each : num_local)
        if (each == type) return 4;
    for (const std::string_view each : moe_num)
        if (each == type) return 8;
    for (const std::string_view each : either)
        if (each == type) return 1 | 4;
    return 0;
}

}  // namespace detail

inline std::uint64_t model_config::expert_count_for(std::string_view type) const noexcept {
    const unsigned keys = detail::expert_count_keys_of(type);
    std::uint64_t found = unknown;
    for (std::size_t i = 0; i < 4; ++i) {
        if (expert_counts[i] == unknown || (keys != 0 && (keys & (1u << i)) == 0)) continue;
        if (keys != 0) return expert_counts[i];
        if (found != unknown && found != expert_counts[i]) return unknown;
        found = expert_counts[i];
    }
    return found;
}

inline result<model_config> model_config::parse(span<const std::byte> json) noexcept {
    const auto copy = detail::config_characters(json);
    if (!copy) return copy.error();
    detail::config_reader reader;
    detail::json_cursor cursor{detail::characters_at(copy->data(), copy->size())};
    const bool is_read = reader.read(cursor, reader.top, true);
    if (is_read) cursor.finish();
    if (cursor.failed())
        return failure{.code = errc::bad_json, .detail = cursor.error(), .offset = cursor.offset()};
    if (!is_read) return detail::lack_of_memory{};

    // The experts belong to the language model, and so does their count. The rest is stored once,
    // mostly at the top level.
    model_config config = std::move(reader.top);
    config.text_model_type = std::move(reader.inner.model_type);
    for (const model_config* inner : {&reader.inner, &reader.ffn})
        if (inner->expert_count != unknown) {
            config.expert_count = inner->expert_count;
            for (std::size_t i = 0; i < 4; ++i) config.expert_counts[i] = inner->expert_counts[i];
        }
    if (config.quantization.empty()) config.quantization = std::move(reader.inner.quantization);
    if (config.dtype_name.empty()) config.dtype_name = std::move(reader.inner.dtype_name);
    return config;
}

/// Reads config.json in a directory.
///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, io_error, bad_json,
///           out_of_memory
[[nodiscard]] inline result<model_config> read_model_config(std::string_view directory) noexcept {
    const text path = detail::join_path(directory, "config.json");
    if (path.empty()) return detail::lack_of_memory_for{directory};
    const auto json = detail::read_whole_file(path, detail::most_config_bytes);
    if (!json) return json.error();
    auto config = model_config::parse(json->view());
    if (!config) config.error().file = path;
    return config;
}

/// The integer under a key of a config.json; `unknown` if there is none. Dots separate nested
/// objects: vision_config.num_attention_heads.
///   fails   bad_json, out_of_memory
[[nodiscard]] inline result<std::uint64_t> parse_config_number(span<const std::byte> json,
                                                               std::string_view key) noexcept {
    const auto copy = detail::config_characters(json);
    if (!copy) return copy.error();
    detail::json_cursor cursor{detail::characters_at(copy->data(), copy->size())};
    std::uint64_t number = unknown;
    detail::find_config_number(cursor, key, number);
    if (!cursor.failed()) cursor.finish();
    if (cursor.failed())
        return failure{.code = errc::bad_json, .detail = cursor.error(), .offset = cursor.offset()};
    return number;
}

/// The integer under a key of the config.json in a directory; see parse_config_number.
///   fails   as read_model_config
[[nodiscard]] inline result<std::uint64_t> read_config_number(std::string_view directory,
                                                              std::string_view key) noexcept {
    const text path = detail::join_path(directory, "config.json");
    if (path.empty()) return detail::lack_of_memory_for{directory};
    const auto json = detail::read_whole_file(path, detail::most_config_bytes);
    if (!json) return json.error();
    auto number = parse_config_number(json->view(), key);
    if (!number) number.error().file = path;
    return number;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
