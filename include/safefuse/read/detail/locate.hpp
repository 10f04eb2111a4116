// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: finds the files of a path: a directory, a shard index or a tensor file.
#ifndef SAFEFUSE_READ_DETAIL_LOCATE_HPP
#define SAFEFUSE_READ_DETAIL_LOCATE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/path.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// The files that a path stands for.
struct resolved_checkpoint {
    text directory;
    text index;          ///< path of the shard index, or empty
    vector<text> files;  ///< without an index: paths of the tensor files, in natural order
};

[[nodiscard]] inline bool sort_naturally(vector<text>& names) noexcept {
    vector<numbered_name> order;
    vector<text> sorted;
    if (!sorted.reserve(names.size())) return false;
    for (std::size_t i = 0; i < names.size(); ++i)
        if (!order.push({names[i], static_cast<std::uint32_t>(i)})) return false;
    if (!sort_naturally(order.view())) return false;
    for (const numbered_name& each : order)
        if (!sorted.push(std::move(names[each.number]))) return false;
    names = std::move(sorted);
    return true;
}

/// The largest number of names in a message.
inline constexpr std::size_t most_named = 6;

/// The quoted names, separated by commas: all of them, or the first few and the number of the rest.
[[nodiscard]] inline text enumerate(span<const text> names) noexcept {
    text out;
    for (std::size_t i = 0; i < names.size() && i < most_named; ++i) {
        if (i != 0) out.append(i + 1 == names.size() ? " and " : ", ");
        append_quoted(out, names[i]);
    }
    if (names.size() > most_named) {
        out.append(" and ");
        out.append_count(names.size() - most_named);
        out.append(" more");
    }
    return out;
}

/// The missing numbers of a series: the first few, and how many there are. They are counted by
/// ranges, because a number may be huge.
class missing_numbers {
public:
    /// Adds `count` missing numbers from `begin` on.
    void add(std::uint64_t begin, std::uint64_t count) noexcept {
        for (std::uint64_t i = 0; i < count && listed_ < most_named; ++i)
            first_[listed_++] = begin + i;
        count_ += count;
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

    /// "missing: model-00002-of-00009.safetensors, ... and 3 more". `like` is a file of the series.
    [[nodiscard]] SAFEFUSE_COLD text names(std::string_view like,
                                           const series_name& parts) const noexcept {
        const std::size_t begin = parts.stem.size() + 1;
        std::size_t width = 0;
        while (is_digit(like[begin + width])) ++width;
        text out{"missing: "};
        for (std::size_t i = 0; i < listed_; ++i) {
            text digits;
            digits.append_number(first_[i]);
            out.append(i == 0 ? "" : ", ");
            out.append(parts.stem);
            out.append("-");
            for (std::size_t d = digits.size(); d < width; ++d) out.append("0");
            out.append(digits);
            out.append(like.substr(begin + width));
        }
        if (count_ > listed_) {
            out.append(" and ");
            out.append_count(count_ - listed_);
            out.append(" more");
        }
        return out;
    }

private:
    std::uint64_t first_[most_named]{};
    std::size_t listed_ = 0;
    std::uint64_t count_ = 0;
};

/// Checks that the names, all of one series and in natural order, are the complete series. Numbers
/// start at 0 or 1.
///   fails   no_checkpoint (they are not a series), incomplete_series
[[nodiscard]] inline result<void> check_series(span<const text> names) noexcept {
    series_name parts;
    if (!parse_series(names[0], parts)) return failure{.code = errc::no_checkpoint};
    const std::uint64_t base = parts.number == 0 ? 0 : 1, count = parts.count;
    failure incomplete{.code = errc::incomplete_series, .expected = count, .actual = names.size()};
    missing_numbers missing;
    std::uint64_t expected = base;
    for (const text& name : names) {
        series_name each;
        (void)parse_series(name, each);
        if (each.number < expected || each.number - base >= count) {
            append_quoted(incomplete.detail, name);
            incomplete.detail.append(each.number < expected ? " has the same number as another file"
                                                            : " has a number out of range");
            return incomplete;
        }
        missing.add(expected, each.number - expected);
        expected = each.number + 1;
    }
    missing.add(expected, count - (expected - base));
    if (missing.count() == 0) return {};
    incomplete.detail = missing.names(names[0], parts);
    return incomplete;
}

/// Checks that the files next to model.safetensors are not a complete series: then they would be
/// more than leftovers.
///   first   the index of model.safetensors in `names`
///   fails   no_checkpoint (they are a complete series), out_of_memory
[[nodiscard]] inline result<void> check_no_series_beside(span<const text> names, std::size_t first,
                                                         std::string_view directory) noexcept {
    vector<text> others;
    series_name one, other;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i == first) continue;
        if (!parse_series(names[i], other)) return {};
        if (others.empty()) one = other;
        if (other.stem != one.stem || other.count != one.count) return {};
        if (!others.push(text{names[i]})) return lack_of_memory_for{directory};
    }
    if (!check_series(others.view())) return {};
    failure both{.code = errc::no_checkpoint,
                 .file = directory,
                 .detail = "\"model.safetensors\" is beside the complete series of "};
    append_quoted(both.detail, others[0]);
    both.detail.append(
        " and no index says which one counts: name the file, or move one of them away");
    return both;
}

/// Finds the files of a directory without an index.
[[nodiscard]] inline result<void> resolve_files(vector<text>&& names,
                                                resolved_checkpoint& found) noexcept {
    const lack_of_memory_for no_memory{found.directory};
    if (!sort_naturally(names)) return no_memory;
    std::size_t first = 0, count = names.size();
    for (std::size_t i = 0; i < names.size(); ++i)
        if (names[i] == "model.safetensors") first = i, count = 1;
    if (count == 0)
        return failure{.code = errc::no_checkpoint,
                       .file = found.directory,
                       .detail = "there is no .safetensors file in it"};
    if (count < names.size() && names.size() > 2)
        if (auto alone = check_no_series_beside(names.view(), first, found.directory); !alone)
            return alone;

    result<void> whole;
    if (count > 1) {
        series_name one, other;
        bool is_series = true;
        for (std::size_t i = 0; is_series && i < count; ++i) {
            is_series = parse_series(names[i], other);
            if (i == 0) one = other;
            is_series = is_series && other.stem == one.stem && other.count == one.count;
        }
        if (!is_series) {
            failure several{.code = errc::no_checkpoint,
                            .file = found.directory,
                            .detail = "several files and no index: "};
            several.detail.append(enumerate(names.view()));
            return several;
        }
        whole = check_series(names.view());
    } else if (series_name only;
               names[first] != "model.safetensors" && parse_series(names[first], only)) {
        whole = check_series(names.view());
    }
    if (!whole) whole.error().file = found.directory;
    for (std::size_t i = first; i < first + count; ++i) {
        text path = join_path(found.directory, names[i]);
        if (path.empty() || !found.files.push(std::move(path))) return no_memory;
    }
    return whole;
}

/// The parts of an index's name: X.safetensors.index.json. With a variant V it is
/// X.V.safetensors.index.json, X.safetensors.index.V.json or X.safetensors.V.index.json.
struct index_name {
    bool is_index = false;
    std::string_view stem;
    std::string_view variant;
};

[[nodiscard]] inline index_name read_index_name(std::string_view name) noexcept {
    index_name out;
    constexpr std::string_view middle = ".safetensors.";
    const std::size_t at = name.find(middle);
    if (at == std::string_view::npos || at == 0 || !name.ends_with(".json")) return out;
    out.stem = name.substr(0, at);
    // index, index.V or V.index
    std::string_view rest = name.substr(at + middle.size(), name.size() - at - middle.size() - 5);
    if (rest == "index") {
        const std::size_t dot = out.stem.find('.');
        if (dot != std::string_view::npos && dot != 0) {
            out.variant = out.stem.substr(dot + 1);
            out.stem = out.stem.substr(0, dot);
        }
        out.is_index = true;
    } else if (rest.starts_with("index.")) {
        out.variant = rest.substr(6);
        out.is_index = true;
    } else if (rest.ends_with(".index")) {
        out.variant = rest.substr(0, rest.size() - 6);
        out.is_index = true;
    }
    return out;
}

/// The variant in a tensor file's name: model.fp16.safetensors,
/// model-00001-of-00002.fp16.safetensors or model.fp16-00001-of-00002.safetensors. Empty if there
/// is none.
[[nodiscard]] inline std::string_view variant_of_file(std::string_view name) noexcept {
    if (!name.ends_with(tensor_file_ending)) return {};
    name = name.substr(0, name.size() - tensor_file_ending.size());
    const std::size_t dot = name.find('.');
    if (dot == std::string_view::npos || dot == 0) return {};
    name = name.substr(dot + 1);
    const std::size_t series = name.find('-');
    return series == std::string_view::npos ? name : name.substr(0, series);
}

/// Keeps the files of one variant. With an empty variant it keeps the files without one, or all if
/// every file has one.
[[nodiscard]] inline bool keep_variant(vector<text>& names, std::string_view variant) noexcept {
    vector<text> kept;
    for (text& name : names)
        if (variant_of_file(name) == variant && !kept.push(text{name})) return false;
    if (!kept.empty() || !variant.empty()) names = std::move(kept);
    return true;
}

/// Chooses the index of a directory. If a variant is given, its index. Otherwise the index without
/// a variant, with model.safetensors.index.json first. If every file has a variant, the only index.
/// Empty if there is no index.
///   fails   several_indexes, no_checkpoint (no such variant), out_of_memory
[[nodiscard]] inline result<text> choose_index(std::string_view directory, vector<text>& indexes,
                                               span<const text> files,
                                               std::string_view variant) noexcept {
    vector<text> plain, others;
    bool has_plain_file = false;
    for (const text& file : files) has_plain_file = has_plain_file || variant_of_file(file).empty();
    for (text& each : indexes) {
        const std::string_view of = read_index_name(each).variant;
        vector<text>& to = of == variant ? plain : others;
        if (!to.push(text{each})) return lack_of_memory_for{directory};
    }
    if (variant.empty())
        for (text& each : plain)
            if (each == "model.safetensors.index.json") return std::move(each);
    vector<text>& from = plain.empty() && variant.empty() && !has_plain_file ? others : plain;
    if (from.size() > 1)
        return failure{
            .code = errc::several_indexes, .file = directory, .detail = enumerate(from.view())};
    if (from.size() == 1) return text{from[0]};
    return text{};
}

/// Handles a path that is not a directory: a shard index or a tensor file.
///   fails   out_of_memory
[[nodiscard]] inline result<void> resolve_file(std::string_view path,
                                               resolved_checkpoint& found) noexcept {
    const lack_of_memory_for no_memory{path};
    found.directory = text{directory_of(path)};
    if (path.ends_with(".json")) {
        found.index = text{path};
        return found.index.size() == path.size() ? result<void>{} : no_memory;
    }
    text copy{path};
    if (copy.size() != path.size() || !found.files.push(std::move(copy))) return no_memory;
    return {};
}

/// Finds the files of a path: a directory, a shard index or a tensor file. An incomplete series is
/// a failure, but the existing files are stored anyway.
[[nodiscard]] inline result<void> resolve_checkpoint(std::string_view path,
                                                     std::string_view variant,
                                                     resolved_checkpoint& found) noexcept {
    const lack_of_memory_for no_memory{path};
    const auto kind = kind_of_path(path);
    if (!kind) return kind.error();
    if (*kind != os::path_kind::directory) return resolve_file(path, found);

    found.directory = text{path};
    vector<text> indexes, files;
    bool has_pytorch = false;
    bool has_room = found.directory.size() == path.size();
    auto listed = list_directory(path, [&](std::string_view name, bool is_directory) noexcept {
        // macOS leaves files such as "._model.safetensors" on other file systems
        if (is_directory || name.starts_with('.')) return true;
        has_pytorch = has_pytorch || name.ends_with(".bin");
        vector<text>* const to = read_index_name(name).is_index       ? &indexes
                                 : name.ends_with(tensor_file_ending) ? &files
                                                                      : nullptr;
        if (to == nullptr) return true;
        text copy{name};
        has_room = copy.size() == name.size() && to->push(std::move(copy));
        return has_room;
    });
    if (!listed) return listed;
    if (!has_room || !sort_naturally(indexes)) return no_memory;
    const auto index = choose_index(path, indexes, files.view(), variant);
    if (!index) return index.error();
    if (!index->empty()) {
        found.index = join_path(path, *index);
        return found.index.empty() ? no_memory : result<void>{};
    }
    if (!keep_variant(files, variant)) return no_memory;
    if (files.empty() && !variant.empty()) {
        failure none{
            .code = errc::no_checkpoint, .file = path, .detail = "no file has the variant "};
        append_quoted(none.detail, variant);
        return none;
    }
    if (files.empty() && has_pytorch) {
        return failure{
            .code = errc::no_checkpoint,
            .file = path,
            .detail =
                "there is no .safetensors file in it, only PyTorch .bin files, which must be "
                "converted first"};
    }
    return resolve_files(std::move(files), found);
}

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
