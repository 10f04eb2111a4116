// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the few keys of config.json that tell how experts are stored.
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
#include <safefuse/format/detail/json_cursor.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/path.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What config.json says of a model. Texts that it does not have are empty. All of it is a claim: the checkpoint decides.
struct model_config {
    text model_type{};                       ///< qwen3_moe, say: what families are looked up by
    text text_model_type{};                  ///< model_type of text_config: of the language model in a larger one
    std::uint64_t expert_count = unknown;  ///< routed experts of a layer; pruned checkpoints differ from it layer by layer
    text quantization{};                     ///< quantization_config.quant_method: fp8, mxfp4, compressed-tensors, ...
    text dtype_name{};                       ///< dtype or torch_dtype, as spelled: bfloat16

    /// Reads the text of a config.json. Of a key that is there twice the last counts, and NaN and Infinity are numbers: Python,
    /// which writes and reads these files, has it so.
    ///   fails   bad_json, out_of_memory
    static result<model_config> parse(span<const std::byte> json) noexcept;
};

namespace detail {

/// Reads the same keys at the top of config.json, in its text_config and in DBRX's ffn_config.
class config_reader {
public:
    model_config top{}, inner{}, ffn{};

    /// Whether it could be read; otherwise `cursor` says why, or memory ran out.
    [[nodiscard]] bool read(json_cursor& cursor, model_config& into, bool is_top) noexcept {
        json_string key;
        std::uint64_t counts[count_spellings] = {unknown, unknown, unknown, unknown};
        for (cursor.enter_object(); cursor.next_member(key);) {
            bool taken = true;
            if (key == "model_type")
                taken = take_text(cursor, into.model_type);
            else if (key == "dtype" || (key == "torch_dtype" && into.dtype_name.empty()))
                taken = take_text(cursor, into.dtype_name);
            else if (is_top && key == "text_config" && cursor.peek() == json_kind::object)
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

    /// Reads the value of a key that is none of the others. Lists, null and floats are no counts.
    static void take_count(json_cursor& cursor, const json_string& key, std::uint64_t (&counts)[count_spellings]) noexcept {
        constexpr std::string_view spellings[count_spellings] = {"num_experts", "n_routed_experts", "num_local_experts",
                                                                 "moe_num_experts"};
        for (std::size_t i = 0; i < count_spellings; ++i) {
            if (!(key == spellings[i])) continue;
            json_cursor probe = cursor;
            if (!probe.read_unsigned(counts[i])) counts[i] = unknown;
        }
        cursor.skip_value();
    }

    [[nodiscard]] static bool take_quantization(json_cursor& cursor, text& out) noexcept {
        json_string key;
        for (cursor.enter_object(); cursor.next_member(key);)
            if (!(key == "quant_method" ? take_text(cursor, out) : cursor.skip_value())) return false;
        return !cursor.failed();
    }
};

/// Overwrites NaN, Infinity and -Infinity outside strings with 0 and spaces: Python's json has them, JSON has not.
inline void blank_python_numbers(span<char> json) noexcept {
    const std::string_view view = detail::characters_at(json.data(), json.size());
    bool in_string = false;
    for (std::size_t i = 0; i < json.size(); ++i) {
        if (json[i] == '"') in_string = !in_string;
        if (in_string && json[i] == '\\') ++i;
        if (in_string || i >= json.size()) continue;
        for (const std::string_view word :
             {std::string_view{"NaN"}, std::string_view{"Infinity"}, std::string_view{"-Infinity"}}) {
            if (!view.substr(i).starts_with(word) || (i > 0 && json[i - 1] == '-')) continue;
            json[i] = '0';
            for (std::size_t at = 1; at < word.size(); ++at) json[i + at] = ' ';
            i += word.size() - 1;
            break;
        }
    }
}

inline constexpr std::uint64_t most_config_bytes = std::uint64_t{64} << 20;

/// The characters of a config.json, without the numbers that JSON has not.
inline result<vector<char>> config_characters(span<const std::byte> json) noexcept {
    vector<char> copy;
    if (!copy.append(reinterpret_cast<const char*>(json.data()), json.size())) return failure{.code = errc::out_of_memory};
    const std::string_view characters = detail::characters_at(copy.data(), copy.size());
    if (const std::size_t valid = utf8_prefix(characters); valid != characters.size())
        return failure{.code = errc::bad_json, .detail = "not UTF-8", .offset = valid};
    blank_python_numbers(copy.view());
    return copy;
}

/// Reads the number under `key`, whose objects are separated by dots, in the object that comes next; `number` stays as it is where
/// there is none.
inline void find_config_number(json_cursor& cursor, std::string_view key, std::uint64_t& number) noexcept {
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

inline result<model_config> model_config::parse(span<const std::byte> json) noexcept {
    const auto copy = detail::config_characters(json);
    if (!copy) return copy.error();
    detail::config_reader reader;
    detail::json_cursor cursor{detail::characters_at(copy->data(), copy->size())};
    const bool is_read = reader.read(cursor, reader.top, true);
    if (is_read) cursor.finish();
    if (cursor.failed()) return failure{.code = errc::bad_json, .detail = cursor.error(), .offset = cursor.offset()};
    if (!is_read) return failure{.code = errc::out_of_memory};

    // The experts are the language model's, and so is the count beside its other sizes; the rest is said once, mostly at the top.
    model_config config = std::move(reader.top);
    config.text_model_type = std::move(reader.inner.model_type);
    for (const model_config* inner : {&reader.inner, &reader.ffn})
        if (inner->expert_count != unknown) config.expert_count = inner->expert_count;
    if (config.quantization.empty()) config.quantization = std::move(reader.inner.quantization);
    if (config.dtype_name.empty()) config.dtype_name = std::move(reader.inner.dtype_name);
    return config;
}

/// Reads config.json in a directory.
///   fails   file_not_found, permission_denied, not_a_file, not_a_directory, io_error, bad_json, out_of_memory
[[nodiscard]] inline result<model_config> read_model_config(std::string_view directory) noexcept {
    const text path = detail::join_path(directory, "config.json");
    if (path.empty()) return failure{.code = errc::out_of_memory, .file = directory};
    const auto json = detail::read_whole_file(path, detail::most_config_bytes);
    if (!json) return json.error();
    auto config = model_config::parse(json->view());
    if (!config) config.error().file = path;
    return config;
}

/// The whole number under a key of a config.json, with dots between objects: vision_config.num_attention_heads. unknown where
/// there is none.
///   fails   bad_json, out_of_memory
[[nodiscard]] inline result<std::uint64_t> parse_config_number(span<const std::byte> json, std::string_view key) noexcept {
    const auto copy = detail::config_characters(json);
    if (!copy) return copy.error();
    detail::json_cursor cursor{detail::characters_at(copy->data(), copy->size())};
    std::uint64_t number = unknown;
    detail::find_config_number(cursor, key, number);
    if (!cursor.failed()) cursor.finish();
    if (cursor.failed()) return failure{.code = errc::bad_json, .detail = cursor.error(), .offset = cursor.offset()};
    return number;
}

/// The same of the config.json in a directory.
///   fails   as read_model_config
[[nodiscard]] inline result<std::uint64_t> read_config_number(std::string_view directory, std::string_view key) noexcept {
    const text path = detail::join_path(directory, "config.json");
    if (path.empty()) return failure{.code = errc::out_of_memory, .file = directory};
    const auto json = detail::read_whole_file(path, detail::most_config_bytes);
    if (!json) return json.error();
    auto number = parse_config_number(json->view(), key);
    if (!number) number.error().file = path;
    return number;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
