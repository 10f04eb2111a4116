// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: which file contains which tensor: model.safetensors.index.json and the names of shards.
// Nothing here reads a file.
//
//     {"metadata": {"total_size": 61064245248},
//      "weight_map": {"lm_head.weight": "model-00016-of-00016.safetensors", ...}}
#ifndef SAFEFUSE_FORMAT_SHARD_INDEX_HPP
#define SAFEFUSE_FORMAT_SHARD_INDEX_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/detail/utf8.hpp>
#include <safefuse/core/natural_order.hpp>
#include <safefuse/core/printable.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/json_cursor.hpp>
#include <safefuse/format/detail/json_writer.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The file name ending of tensor files.
inline constexpr std::string_view tensor_file_ending = ".safetensors";
/// The file name ending of shard indexes.
inline constexpr std::string_view shard_index_ending = ".safetensors.index.json";

class shard_index;

namespace detail {

/// A name, and its number before the names were sorted.
struct numbered_name {
    std::string_view name;
    std::uint32_t number;
};

/// Sorts names in natural order. Returns false if memory runs out.
[[nodiscard]] SAFEFUSE_NOINLINE inline bool sort_naturally(span<numbered_name> names) noexcept {
    return sort(names, [](const numbered_name& a, const numbered_name& b) noexcept {
        return natural_less(a.name, b.name);
    });
}

inline name_table take_names(shard_index&& index, span<const std::uint32_t> numbers) noexcept;

/// Appends a name in quotes, fit for a message.
SAFEFUSE_NOINLINE inline void append_quoted(text& out, std::string_view name) noexcept {
    out.append("\"");
    append_printable(out, name);
    out.append("\"");
}

/// The failure for a tensor that an index lists in two files.
[[nodiscard]] SAFEFUSE_COLD inline failure listed_twice(std::string_view tensor,
                                                        std::string_view first,
                                                        std::string_view second,
                                                        std::size_t offset) noexcept {
    failure twice{.code = errc::bad_index,
                  .tensor = tensor,
                  .detail = "it is listed twice, in ",
                  .offset = offset};
    append_quoted(twice.detail, first);
    twice.detail.append(" and in ");
    append_quoted(twice.detail, second);
    return twice;
}

}  // namespace detail

/// Whether a shard's name stays inside the directory of its index: judged by the name alone and the
/// same on every system, so that symbolic links into a cache, which leave the directory by design,
/// work, and an index written to attack one system is refused on all.
///   fails   path_leaves_directory (empty, absolute, a drive letter, a server, a `..`, spaced or
///   not, a control character; `/` and
///           `\` both separate), bad_index (it does not end in .safetensors)
[[nodiscard]] inline result<void> check_contained(std::string_view file) noexcept {
    const auto refuse = [&](errc code, std::string_view why) noexcept {
        failure refused{.code = code};
        detail::append_quoted(refused.detail, file);
        refused.detail.append(why);
        return refused;
    };
    const auto is_separator = [](char c) noexcept { return c == '/' || c == '\\'; };
    if (file.empty()) return refuse(errc::path_leaves_directory, " is not a file name");
    if (is_separator(file[0])) return refuse(errc::path_leaves_directory, " is an absolute path");
    const char letter = static_cast<char>(file[0] | 0x20);
    if (file.size() > 1 && file[1] == ':' && letter >= 'a' && letter <= 'z')
        return refuse(errc::path_leaves_directory, " begins with a drive letter");
    // Windows drops dots and spaces at the end of a component, so ".. " means ".." there.
    std::size_t dots = 0;
    bool only_dots = true;
    for (std::size_t i = 0; i <= file.size(); ++i) {
        if (i < file.size() && (static_cast<unsigned char>(file[i]) < 0x20 || file[i] == 0x7F))
            return refuse(errc::path_leaves_directory, " contains a control character");
        if (i == file.size() || is_separator(file[i])) {
            if (only_dots && dots >= 2)
                return refuse(errc::path_leaves_directory, " leads out of the directory");
            dots = 0;
            only_dots = true;
        } else if (file[i] == '.') {
            ++dots;
        } else if (file[i] != ' ') {
            only_dots = false;
        }
    }
    if (file.ends_with(".bin"))
        return refuse(
            errc::bad_index,
            " does not end in .safetensors: it is a PyTorch file, which must be converted first");
    if (!file.ends_with(tensor_file_ending))
        return refuse(errc::bad_index, " does not end in .safetensors");
    return {};
}

/// The parts of a shard's name `<stem>-<number>-of-<count>.safetensors`.
struct series_name {
    std::string_view stem;     ///< the part before the number: model
    std::uint64_t number = 0;  ///< number of this shard, from 1
    std::uint64_t count = 0;   ///< number of shards in the series
};

/// Stores the parts of a numbered shard name, with any padding of the numbers. Returns false for
/// other names.
[[nodiscard]] constexpr bool parse_series(std::string_view file, series_name& parts) noexcept {
    if (!file.ends_with(tensor_file_ending)) return false;
    file.remove_suffix(tensor_file_ending.size());
    const auto take_number = [&](std::uint64_t& number) noexcept {
        std::size_t first = file.size();
        while (first > 0 && detail::is_digit(file[first - 1])) --first;
        if (first == file.size() || file.size() - first > 18) return false;
        number = 0;
        for (const char digit : file.substr(first))
            number = number * 10 + static_cast<std::uint64_t>(digit - '0');
        file.remove_suffix(file.size() - first);
        return true;
    };
    series_name found;
    if (!take_number(found.count) || !file.ends_with("-of-")) return false;
    file.remove_suffix(4);
    if (!take_number(found.number) || !file.ends_with('-')) return false;
    file.remove_suffix(1);
    found.stem = file;
    parts = found;
    return true;
}

/// The name of a shard as huggingface_hub writes it: model-00001-of-00003.safetensors, or
/// model.safetensors if there is only one. The text lacks_memory() if memory ran out.
///   units   `number` counts from 1
[[nodiscard]] inline text shard_name(std::string_view stem, std::uint64_t number,
                                     std::uint64_t count) noexcept {
    text name{stem};
    const auto append_padded = [&](std::uint64_t value) noexcept {
        for (std::uint64_t least = 10'000; value < least && least > 1; least /= 10)
            name.append("0");
        name.append_number(value);
    };
    if (count != 1) {
        name.append("-");
        append_padded(number);
        name.append("-of-");
        append_padded(count);
    }
    name.append(tensor_file_ending);
    return name;
}

/// The file that contains a tensor.
struct shard_entry {
    std::string_view tensor;  ///< full name
    std::string_view file;    ///< relative to the directory of the index
};

/// A shard index: tensors in the order of the index, files in natural order of their names (2
/// before 10).
class shard_index {
public:
    /// What find() returns if there is no such tensor.
    static constexpr std::size_t npos = ~std::size_t{0};

    /// Parses the text of an index. Unknown keys are ignored, at the top level and in `metadata`.
    ///   lifetime  names point into `json`
    ///   fails   bad_json, bad_index (no weight_map, a value that is not a file name, a repeated
    ///           key), path_leaves_directory, out_of_memory; the failure names the tensor
    static result<shard_index> parse(span<const std::byte> json SAFEFUSE_LIFETIMEBOUND) noexcept {
        return parse(json, nullptr);
    }

    /// Parses the text of an index. Problems of single tensors are added to `problems` and do not
    /// stop the parser: of a repeated key the first counts, and a tensor whose file is refused is
    /// left out.
    ///   lifetime  names point into `json`
    ///   fails   bad_json, bad_index (no weight_map), out_of_memory
    static result<shard_index> parse(span<const std::byte> json SAFEFUSE_LIFETIMEBOUND,
                                     vector<failure>& problems) noexcept {
        return parse(json, &problems);
    }
    /// Of a text that ends with the expression no names may be kept.
    template <class Json>
        requires detail::ending_owner<Json, std::byte>
    static result<shard_index> parse(Json&&) = delete;

    /// The number of tensors.
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    /// The name of tensor i.
    ///   lifetime  as parse
    [[nodiscard]] std::string_view tensor(std::size_t i) const noexcept {
        return entries_[i].tensor;
    }
    /// The index of the file that contains tensor i.
    [[nodiscard]] std::size_t file_of(std::size_t i) const noexcept { return entries_[i].file; }
    /// The number of files.
    [[nodiscard]] std::size_t file_count() const noexcept { return files_.size(); }
    /// The name of file i, relative to the directory of the index.
    ///   lifetime  as parse
    [[nodiscard]] std::string_view file(std::size_t i) const noexcept { return files_[i]; }

    /// The index of the file that contains a tensor, or npos.
    [[nodiscard]] std::size_t find(std::string_view tensor) const noexcept {
        const std::uint32_t i = tensors_by_name_.find(tensor, names_of{entries_.data()});
        return i == detail::name_table::npos ? npos : entries_[i].file;
    }

    /// metadata.total_size, or `unknown` if it is absent or not a plain integer. Writers disagree
    /// about what it sums, so it is only a hint.
    [[nodiscard]] std::uint64_t total_size_bytes() const noexcept { return total_size_bytes_; }

private:
    friend detail::name_table detail::take_names(shard_index&& index,
                                                 span<const std::uint32_t> numbers) noexcept;

    struct entry {
        std::string_view tensor;
        std::uint32_t file;
    };
    struct names_of {
        const entry* entries;
        std::string_view operator()(std::uint32_t i) const noexcept { return entries[i].tensor; }
    };

    static result<shard_index> parse(span<const std::byte> json,
                                     vector<failure>* problems) noexcept;
    /// The characters around the name in the previous line. Most lines differ only in the name, so
    /// lines with the same frame need no parser.
    struct line_frame {
        /// from the end of the previous line to the name: usually a comma, a line end and spaces
        std::string_view before;
        /// from the name's closing quote to the end of the file name: ":
        /// "model-00001-of-00002.safetensors"
        std::string_view after;
        std::uint32_t file = 0;
    };
    result<void> find_file(entry& of, std::string_view file,
                           detail::name_table& files_by_name) noexcept;
    result<void> read_weight_map(detail::json_cursor& cursor, vector<failure>* problems) noexcept;
    result<bool> read_file(detail::json_cursor& cursor, entry& of, std::size_t offset,
                           detail::name_table& files_by_name, vector<failure>* problems) noexcept;
    result<void> scan_lines(detail::json_cursor& cursor, const line_frame& frame,
                            vector<failure>* problems) noexcept;
    result<void> add(const entry& read, std::size_t offset, vector<failure>* problems) noexcept;
    SAFEFUSE_NOINLINE static result<void> tolerate(failure&& problem,
                                                   vector<failure>* problems) noexcept {
        if (problems == nullptr) return std::move(problem);
        if (!problems->push(std::move(problem))) return detail::lack_of_memory{};
        return {};
    }
    result<void> sort_files() noexcept;

    /// Stores the string as a lasting view: into the JSON, or decoded into the arena.
    [[nodiscard]] SAFEFUSE_NOINLINE bool keep(const detail::json_string& string,
                                              const char* text_end,
                                              std::string_view& kept) noexcept {
        if (!string.escaped) {
            kept = string.raw;
            return true;
        }
        // A decoded string is never longer than its encoded form, so this block never moves.
        if (arena_.capacity() == 0 &&
            !arena_.reserve(static_cast<std::size_t>(text_end - string.raw.data())))
            return false;
        const std::size_t first = arena_.size();
        if (!string.decode(arena_)) return false;
        kept = detail::characters_at(arena_.data() + first, arena_.size() - first);
        return true;
    }

    vector<entry> entries_;
    vector<std::string_view> files_;
    detail::name_table tensors_by_name_;
    vector<char> arena_;
    std::uint64_t total_size_bytes_ = unknown;
};

namespace detail {

/// Moves the name table out of the index. Tensor i then has the index numbers[i]. For callers that
/// store the same names elsewhere.
inline name_table take_names(shard_index&& index, span<const std::uint32_t> numbers) noexcept {
    index.tensors_by_name_.renumber(numbers);
    return std::move(index.tensors_by_name_);
}

}  // namespace detail

inline result<shard_index> shard_index::parse(span<const std::byte> json,
                                              vector<failure>* problems) noexcept {
    const std::string_view characters{reinterpret_cast<const char*>(json.data()), json.size()};
    if (const std::size_t valid = detail::utf8_prefix(characters); valid != characters.size())
        return failure{.code = errc::bad_json, .detail = "not UTF-8", .offset = valid};

    shard_index index;
    detail::json_cursor cursor{characters};
    detail::json_string key;
    bool has_weight_map = false;
    for (cursor.enter_object(); cursor.next_member(key);) {
        if (key == "weight_map") {
            if (has_weight_map)
                return failure{.code = errc::bad_index,
                               .detail = "there are two weight_maps",
                               .offset = cursor.offset()};
            has_weight_map = true;
            if (auto done = index.read_weight_map(cursor, problems); !done)
                return std::move(done).error();
        } else if (key == "metadata" && cursor.peek() == detail::json_kind::object) {
            for (cursor.enter_object(); cursor.next_member(key);) {
                if (key == "total_size") {
                    detail::json_cursor probe = cursor;
                    if (!probe.read_unsigned(index.total_size_bytes_))
                        index.total_size_bytes_ = unknown;
                }
                cursor.skip_value();
            }
        } else {
            cursor.skip_value();
        }
    }
    if (!cursor.failed()) cursor.finish();
    if (cursor.failed())
        return failure{.code = cursor.is_type_error() ? errc::bad_index : errc::bad_json,
                       .detail = cursor.error(),
                       .offset = cursor.offset()};
    if (!has_weight_map)
        return failure{.code = errc::bad_index, .detail = "there is no weight_map"};
    if (auto done = index.sort_files(); !done) return std::move(done).error();
    return index;
}

/// Sets the file of an entry: a known one with that name, or a new one.
///   fails   as check_contained, out_of_memory
inline result<void> shard_index::find_file(entry& of, std::string_view file,
                                           detail::name_table& files_by_name) noexcept {
    constexpr detail::lack_of_memory no_memory;
    const auto file_name = [&](std::uint32_t i) noexcept { return files_[i]; };
    // neighbours usually share their file
    if (!entries_.empty() && files_[entries_.back().file] == file) {
        of.file = entries_.back().file;
        return {};
    }
    of.file = files_by_name.find(file, file_name);
    if (of.file != detail::name_table::npos) return {};
    if (auto inside = check_contained(file); !inside) return inside;
    of.file = static_cast<std::uint32_t>(files_.size());
    if (!files_.push(file) || files_by_name.insert(file, of.file, file_name).what !=
                                  detail::name_table::outcome::inserted)
        return no_memory;
    return {};
}

/// Reads the value of a member, the name of a file, and sets the entry's file. False: the member
/// adds no tensor, because its file is refused or the cursor failed.
inline result<bool> shard_index::read_file(detail::json_cursor& cursor, entry& of,
                                           std::size_t offset, detail::name_table& files_by_name,
                                           vector<failure>* problems) noexcept {
    const auto leave_out = [&](failure&& problem) noexcept -> result<bool> {
        if (auto ok = tolerate(std::move(problem), problems); !ok) return std::move(ok).error();
        return false;
    };
    if (cursor.peek() != detail::json_kind::string && cursor.peek() != detail::json_kind::none) {
        auto left = leave_out({.code = errc::bad_index,
                               .tensor = of.tensor,
                               .detail = "its file must be a string",
                               .offset = offset});
        if (left) static_cast<void>(cursor.skip_value());
        return left;
    }
    detail::json_string value;
    if (!cursor.read_string(value)) return false;
    std::string_view file;
    if (!keep(value, cursor.end(), file)) return detail::lack_of_memory{};
    auto found = find_file(of, file, files_by_name);
    if (found) return true;
    if (found.error().code == errc::out_of_memory) return std::move(found).error();
    found.error().tensor = of.tensor;
    found.error().offset = offset;
    return leave_out(std::move(found).error());
}

inline result<void> shard_index::read_weight_map(detail::json_cursor& cursor,
                                                 vector<failure>* problems) noexcept {
    constexpr detail::lack_of_memory no_memory;
    detail::name_table files_by_name;

    // A line of an index is about this long. The tables grow if the guess is too low; a guess that
    // is too high costs little.
    const std::size_t guess = static_cast<std::size_t>(cursor.end() - cursor.here()) / 96;
    if (!entries_.reserve(guess) || !tensors_by_name_.reserve(guess)) return no_memory;

    detail::json_string key;
    const char* line_end = nullptr;
    for (cursor.enter_object(); cursor.next_member(key);) {
        const std::size_t offset =
            cursor.offset() - static_cast<std::size_t>(cursor.here() - key.raw.data());
        const std::string_view before = detail::characters_at(
            line_end,
            line_end == nullptr ? 0 : static_cast<std::size_t>(key.raw.data() - line_end));
        line_end = nullptr;
        entry read{};
        if (!keep(key, cursor.end(), read.tensor)) return no_memory;
        auto has_file = read_file(cursor, read, offset, files_by_name, problems);
        if (!has_file) return std::move(has_file).error();
        if (!*has_file) continue;
        if (auto done = add(read, offset, problems); !done) return done;
        line_end = cursor.here();
        if (before.empty()) continue;
        const char* const name_end = key.raw.data() + key.raw.size();
        const line_frame frame{
            before, {name_end, static_cast<std::size_t>(line_end - name_end)}, read.file};
        if (auto done = scan_lines(cursor, frame, problems); !done) return done;
        line_end = cursor.here();
    }
    return {};  // the caller reports what the cursor refuses
}

/// Reads lines as long as they differ from the previous one only in the name, byte for byte.
inline result<void> shard_index::scan_lines(detail::json_cursor& cursor, const line_frame& frame,
                                            vector<failure>* problems) noexcept {
    const char* const begin = cursor.here() - cursor.offset();
    const auto stands_at = [&](const char* at, std::string_view expected) noexcept {
        return static_cast<std::size_t>(cursor.end() - at) >= expected.size() &&
               std::memcmp(at, expected.data(), expected.size()) == 0;
    };
    for (const char* at = cursor.here(); stands_at(at, frame.before);) {
        const char* const name = at + frame.before.size();
        const char* const name_end = detail::find_string_stop(name, cursor.end());
        // another file, other spacing, or an escape in the name
        if (!stands_at(name_end, frame.after)) break;
        const entry read{{name, static_cast<std::size_t>(name_end - name)}, frame.file};
        if (auto done = add(read, static_cast<std::size_t>(name - begin), problems); !done)
            return done;
        at = name_end + frame.after.size();
        cursor.resume_after_value(at);
    }
    return {};
}

inline result<void> shard_index::add(const entry& read, std::size_t offset,
                                     vector<failure>* problems) noexcept {
    if (!entries_.push(read)) return detail::lack_of_memory{};
    const auto number = static_cast<std::uint32_t>(entries_.size() - 1);
    const auto inserted = tensors_by_name_.insert(read.tensor, number, names_of{entries_.data()});
    if (inserted.what == detail::name_table::outcome::inserted) return {};
    if (inserted.what == detail::name_table::outcome::out_of_memory)
        return detail::lack_of_memory{};
    entries_.pop();
    return tolerate(detail::listed_twice(read.tensor, files_[entries_[inserted.index].file],
                                         files_[read.file], offset),
                    problems);
}

inline result<void> shard_index::sort_files() noexcept {
    vector<detail::numbered_name> order;
    vector<std::uint32_t> number_of;
    if (!order.reserve(files_.size()) || !number_of.resize(files_.size()))
        return detail::lack_of_memory{};
    for (std::size_t i = 0; i < files_.size(); ++i)
        if (!order.push({files_[i], static_cast<std::uint32_t>(i)}))
            return detail::lack_of_memory{};
    if (!detail::sort_naturally(order.view())) return detail::lack_of_memory{};
    for (std::size_t i = 0; i < order.size(); ++i) {
        files_[i] = order[i].name;
        number_of[order[i].number] = static_cast<std::uint32_t>(i);
    }
    for (entry& each : entries_) each.file = number_of[each.file];
    return {};
}

/// The text of an index, byte for byte as huggingface_hub and transformers write it: indented by
/// two, keys sorted, ASCII only.
///   fails   bad_name (not UTF-8), duplicate_tensor, path_leaves_directory, bad_index (a file that
///           does not end in .safetensors), out_of_memory
[[nodiscard]] inline result<vector<std::byte>> encode_index(
    span<const shard_entry> entries, std::uint64_t total_size_bytes) noexcept {
    constexpr detail::lack_of_memory no_memory;
    vector<shard_entry> sorted;
    if (!sorted.append(entries.data(), entries.size())) return no_memory;
    // Python sorts by code point, which for UTF-8 is the order of the bytes.
    if (!detail::sort(sorted.view(), [](const shard_entry& a, const shard_entry& b) noexcept {
            return a.tensor < b.tensor;
        }))
        return no_memory;

    vector<std::byte> out;
    const auto put = [&](std::string_view more) noexcept {
        return out.append(reinterpret_cast<const std::byte*>(more.data()), more.size());
    };
    text total;
    if (!total.append_number(total_size_bytes)) return no_memory;
    if (!put("{\n  \"metadata\": {\n    \"total_size\": ") || !put(total) ||
        !put("\n  },\n  \"weight_map\": {"))
        return no_memory;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        const shard_entry& each = sorted[i];
        if (!detail::is_utf8(each.tensor) || !detail::is_utf8(each.file))
            return failure{.code = errc::bad_name, .tensor = each.tensor, .detail = "not UTF-8"};
        if (i > 0 && each.tensor == sorted[i - 1].tensor)
            return failure{.code = errc::duplicate_tensor, .tensor = each.tensor};
        if (auto inside = check_contained(each.file); !inside) {
            inside.error().tensor = each.tensor;
            return std::move(inside).error();
        }
        if (!put(i == 0 ? "\n    " : ",\n    ") || !detail::append_ascii_json(out, each.tensor) ||
            !put(": ") || !detail::append_ascii_json(out, each.file))
            return no_memory;
    }
    if (!put(sorted.empty() ? "}\n}\n" : "\n  }\n}\n")) return no_memory;
    return out;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
