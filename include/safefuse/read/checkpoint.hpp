// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: many tensor files as one set of named tensors, found by the shard index or without one.
#ifndef SAFEFUSE_READ_CHECKPOINT_HPP
#define SAFEFUSE_READ_CHECKPOINT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/first_bytes.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The most files whose handles a checkpoint keeps: systems let a process have 256 to 1,024 of them. The files of larger ones are
/// opened again when they are read by offset or checked, and cannot be shared or linked.
inline constexpr std::size_t most_open_files = 200;

/// How a checkpoint is read.
struct checkpoint_options {
    read_options read{};  ///< of every header
    /// Tensors that a shard holds and the index does not list are part of the checkpoint, as transformers has it, and not invisible.
    bool show_unlisted = false;
    /// Which variant of a directory is read: fp16 for model.safetensors.index.fp16.json and the other spellings. Empty: what has no
    /// variant, and a variant only where there is nothing else.
    std::string_view variant{};
};

/// Something about a checkpoint that is worth knowing and no failure.
struct checkpoint_note {
    /// What there is to know.
    enum class kind : std::uint8_t {
        unlisted_tensors,    ///< `count` tensors of a shard are not in the index: invisible; `tensor` is the first
        superseded_tensors,  ///< `count` tensors of a shard are, by the index, in another shard: the copies here are invisible
        unused_file,         ///< a .safetensors file beside the shards that the index does not name
        total_size_differs,  ///< the index's total_size is `expected`, the listed tensors sum to `actual`: harmless
        gap_bytes,           ///< `count` bytes before or between the tensors of a file belong to none (read_options::gaps)
        trailing_bytes,      ///< `count` bytes follow the last tensor of a file (read_options::trailing_bytes)
    };

    kind what{};                       ///< the kind of note
    text file{};                       ///< path of the file that it is about
    text tensor{};                     ///< the first tensor that it is about; empty: it is about none
    std::uint64_t count = unknown;     ///< tensors or bytes, as the kind says
    std::uint64_t expected = unknown;  ///< what the index says
    std::uint64_t actual = unknown;    ///< what is there

    /// One sentence that names everything known about it, fit for a terminal: see append_printable.
    [[nodiscard]] text message() const noexcept {
        text out = printable(file);
        const auto counted = [&](std::string_view one, std::string_view many) noexcept {
            out.append(": ");
            out.append_count(count);
            out.append(count == 1 ? one : many);
            out.append(", first ");
            detail::append_quoted(out, tensor);
        };
        switch (what) {
        case kind::unlisted_tensors:
            counted(" tensor that the index does not list", " tensors that the index does not list");
            break;
        case kind::superseded_tensors:
            counted(" tensor that the index takes from another shard", " tensors that the index takes from other shards");
            break;
        case kind::unused_file: out.append(": not used, the index does not name it"); break;
        case kind::total_size_differs:
            out.append(": total_size is ");
            out.append_count(expected);
            out.append(", but the tensors have ");
            out.append_count(actual);
            out.append(" bytes");
            break;
        case kind::gap_bytes:
        case kind::trailing_bytes:
            out.append(": ");
            out.append_count(count);
            out.append(count == 1 ? " byte" : " bytes");
            out.append(what == kind::gap_bytes ? " between the tensors belong to none" : " behind the last tensor");
            break;
        }
        return out;
    }
};

/// All that is wrong with a checkpoint, and what is remarkable.
class checkpoint_report {
public:
    /// Whether open() would succeed.
    [[nodiscard]] bool is_sound() const noexcept { return failures_.empty(); }
    /// Everything that is wrong, in the order of the files.
    [[nodiscard]] span<const failure> failures() const noexcept SAFEFUSE_LIFETIMEBOUND { return failures_.view(); }
    /// What is remarkable and no failure.
    [[nodiscard]] span<const checkpoint_note> notes() const noexcept SAFEFUSE_LIFETIMEBOUND { return notes_.view(); }
    /// How many files could be read.
    [[nodiscard]] std::size_t file_count() const noexcept { return file_count_; }
    /// How many tensors of the checkpoint were found, and their bytes.
    [[nodiscard]] std::size_t tensor_count() const noexcept { return tensor_count_; }
    /// The sum of the bytes of those tensors; unknown where files with holes claim more than that.
    [[nodiscard]] std::uint64_t tensor_bytes() const noexcept { return tensor_bytes_; }

private:
    template <class>
    friend class basic_checkpoint;

    void count_bytes(std::uint64_t more) noexcept {
        if (!detail::checked_add(tensor_bytes_, more, tensor_bytes_)) tensor_bytes_ = unknown;
    }
    [[nodiscard]] bool add(failure&& found) noexcept { return failures_.push(std::move(found)); }
    [[nodiscard]] SAFEFUSE_NOINLINE bool add(checkpoint_note&& found) noexcept { return notes_.push(std::move(found)); }
    /// Notes what the options let pass in a file.
    [[nodiscard]] SAFEFUSE_NOINLINE bool add_tolerated(std::string_view file, const header& read) noexcept {
        using kind = checkpoint_note::kind;
        const std::uint64_t gap_bytes = read.gap_bytes(), trailing_bytes = read.trailing_bytes();
        return (gap_bytes == 0 || add({.what = kind::gap_bytes, .file = file, .count = gap_bytes})) &&
               (trailing_bytes == 0 || add({.what = kind::trailing_bytes, .file = file, .count = trailing_bytes}));
    }

    vector<failure> failures_;
    vector<checkpoint_note> notes_;
    std::size_t file_count_ = 0;
    std::size_t tensor_count_ = 0;
    std::uint64_t tensor_bytes_ = 0;
};

namespace detail {

/// Which files a path stands for.
struct resolved_checkpoint {
    text directory;
    text index;          ///< path of the shard index, or empty
    vector<text> files;  ///< without an index: paths of the tensor files, in natural order
};

[[nodiscard]] inline bool sort_naturally(vector<text>& names) noexcept {
    vector<std::uint32_t> order;
    vector<text> sorted;
    if (!order.resize(names.size()) || !sorted.reserve(names.size())) return false;
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
    if (!sort(order.view(), [&](std::uint32_t a, std::uint32_t b) noexcept { return natural_less(names[a], names[b]); }))
        return false;
    for (const std::uint32_t i : order)
        if (!sorted.push(std::move(names[i]))) return false;
    names = std::move(sorted);
    return true;
}

/// The most names that a message lists.
inline constexpr std::size_t most_named = 6;

/// Names in quotes with commas between: all, or the first few and how many more.
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

/// The numbers of a series that no file has: the first of them, and how many there are. They are
/// counted, not walked, because a number may be huge.
class missing_numbers {
public:
    /// `count` numbers from `begin` on are missing.
    void add(std::uint64_t begin, std::uint64_t count) noexcept {
        for (std::uint64_t i = 0; i < count && listed_ < most_named; ++i) first_[listed_++] = begin + i;
        count_ += count;
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

    /// "missing: model-00002-of-00009.safetensors, ... and 3 more". `like` is a file of the series.
    [[nodiscard]] SAFEFUSE_COLD text names(std::string_view like, const series_name& parts) const noexcept {
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

/// Checks that names, all of one series and in natural order, are the whole series. Numbers count
/// from 0 or from 1.
///   fails   no_checkpoint (they are no series), incomplete_series
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
            incomplete.detail.append(each.number < expected ? " has a number that another file has"
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

/// Whether the files beside model.safetensors are no complete series: that would be no leftover.
///   first   the number of model.safetensors
///   fails   no_checkpoint (they are one), out_of_memory
[[nodiscard]] inline result<void> check_no_series_beside(span<const text> names, std::size_t first,
                                                         std::string_view directory) noexcept {
    vector<text> others;
    series_name one, other;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i == first) continue;
        if (!parse_series(names[i], other)) return {};
        if (others.empty()) one = other;
        if (other.stem != one.stem || other.count != one.count) return {};
        if (!others.push(text{names[i]})) return failure{.code = errc::out_of_memory, .file = directory};
    }
    if (!check_series(others.view())) return {};
    failure both{
        .code = errc::no_checkpoint, .file = directory, .detail = "\"model.safetensors\" is beside the complete series of "};
    append_quoted(both.detail, others[0]);
    both.detail.append(" and no index says which counts: name the file, or move one of them away");
    return both;
}

/// Finds the files of a directory without an index.
[[nodiscard]] inline result<void> resolve_files(vector<text>&& names, resolved_checkpoint& found) noexcept {
    const failure no_memory{.code = errc::out_of_memory, .file = found.directory};
    if (!sort_naturally(names)) return no_memory;
    std::size_t first = 0, count = names.size();
    for (std::size_t i = 0; i < names.size(); ++i)
        if (names[i] == "model.safetensors") first = i, count = 1;
    if (count == 0)
        return failure{.code = errc::no_checkpoint, .file = found.directory, .detail = "there is no .safetensors file in it"};
    if (count < names.size() && names.size() > 2)
        if (auto alone = check_no_series_beside(names.view(), first, found.directory); !alone) return alone;

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
            failure several{.code = errc::no_checkpoint, .file = found.directory, .detail = "several files and no index: "};
            several.detail.append(enumerate(names.view()));
            return several;
        }
        whole = check_series(names.view());
    } else if (series_name only; names[first] != "model.safetensors" && parse_series(names[first], only)) {
        whole = check_series(names.view());
    }
    if (!whole) whole.error().file = found.directory;
    for (std::size_t i = first; i < first + count; ++i) {
        text path = join_path(found.directory, names[i]);
        if (path.empty() || !found.files.push(std::move(path))) return no_memory;
    }
    return whole;
}

/// What an index's name says: X.safetensors.index.json; of a variant V X.V.safetensors.index.json, X.safetensors.index.V.json or
/// X.safetensors.V.index.json.
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
    std::string_view rest = name.substr(at + middle.size(), name.size() - at - middle.size() - 5);  // index, index.V or V.index
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

/// Which variant a tensor file's name says: model.fp16.safetensors, model-00001-of-00002.fp16.safetensors or
/// model.fp16-00001-of-00002.safetensors. Empty: none.
[[nodiscard]] inline std::string_view variant_of_file(std::string_view name) noexcept {
    if (!name.ends_with(tensor_file_ending)) return {};
    name = name.substr(0, name.size() - tensor_file_ending.size());
    const std::size_t dot = name.find('.');
    if (dot == std::string_view::npos || dot == 0) return {};
    name = name.substr(dot + 1);
    const std::size_t series = name.find('-');
    return series == std::string_view::npos ? name : name.substr(0, series);
}

/// Keeps the files of one variant; with an empty one those of none, where there are any.
[[nodiscard]] inline bool keep_variant(vector<text>& names, std::string_view variant) noexcept {
    vector<text> kept;
    for (text& name : names)
        if (variant_of_file(name) == variant && !kept.push(text{name})) return false;
    if (!kept.empty() || !variant.empty()) names = std::move(kept);
    return true;
}

/// Chooses the index of a directory: of the variant that is asked for; else the one of none, model.safetensors.index.json before others;
/// else, where nothing is without a variant, the only one. Empty: there is none.
///   fails   several_indexes, no_checkpoint (no such variant), out_of_memory
[[nodiscard]] inline result<text> choose_index(std::string_view directory, vector<text>& indexes, span<const text> files,
                                               std::string_view variant) noexcept {
    vector<text> plain, others;
    bool has_plain_file = false;
    for (const text& file : files) has_plain_file = has_plain_file || variant_of_file(file).empty();
    for (text& each : indexes) {
        const std::string_view of = read_index_name(each).variant;
        vector<text>& to = of == variant ? plain : others;
        if (!to.push(text{each})) return failure{.code = errc::out_of_memory, .file = directory};
    }
    if (variant.empty())
        for (text& each : plain)
            if (each == "model.safetensors.index.json") return std::move(each);
    vector<text>& from = plain.empty() && variant.empty() && !has_plain_file ? others : plain;
    if (from.size() > 1) return failure{.code = errc::several_indexes, .file = directory, .detail = enumerate(from.view())};
    if (from.size() == 1) return text{from[0]};
    return text{};
}

/// A path that is no directory: a shard index or a tensor file.
///   fails   out_of_memory
[[nodiscard]] inline result<void> resolve_file(std::string_view path, resolved_checkpoint& found) noexcept {
    const failure no_memory{.code = errc::out_of_memory, .file = path};
    found.directory = text{directory_of(path)};
    if (path.ends_with(".json")) {
        found.index = text{path};
        return found.index.size() == path.size() ? result<void>{} : no_memory;
    }
    text copy{path};
    if (copy.size() != path.size() || !found.files.push(std::move(copy))) return no_memory;
    return {};
}

/// Finds what a path stands for: a directory, a shard index or a tensor file. An incomplete series is a failure, and the files
/// that are there are stored all the same.
[[nodiscard]] inline result<void> resolve_checkpoint(std::string_view path, std::string_view variant,
                                                     resolved_checkpoint& found) noexcept {
    const failure no_memory{.code = errc::out_of_memory, .file = path};
    const auto kind = kind_of_path(path);
    if (!kind) return kind.error();
    if (*kind != os::path_kind::directory) return resolve_file(path, found);

    found.directory = text{path};
    vector<text> indexes, files;
    bool has_pytorch = false;
    bool has_room = found.directory.size() == path.size();
    auto listed = list_directory(path, [&](std::string_view name, bool is_directory) noexcept {
        if (is_directory || name.starts_with('.')) return true;  // "._model.safetensors" is what macOS leaves on other disks
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
        failure none{.code = errc::no_checkpoint, .file = path, .detail = "no file is of variant "};
        append_quoted(none.detail, variant);
        return none;
    }
    if (files.empty() && has_pytorch) {
        return failure{.code = errc::no_checkpoint,
                       .file = path,
                       .detail = "there is no .safetensors file in it, but PyTorch's .bin files: they must be converted first"};
    }
    return resolve_files(std::move(files), found);
}

/// Far beyond any index: the largest known has 17 MB.
inline constexpr std::uint64_t most_index_bytes = std::uint64_t{1} << 30;

/// The text of an index: where it lies if tensor files are mapped, else a copy.
template <file_source Source>
class index_text {
public:
    ///   fails   as Source::open and read_whole_file
    static result<index_text> open(std::string_view path) noexcept {
        index_text made;
        if constexpr (std::is_same_v<Source, mapped_file>) {
            auto file = mapped_file::open(path);
            if (!file) return std::move(file).error();
            if (file->size_bytes() <= most_index_bytes) {
                made.mapped_ = std::move(*file);
                return made;
            }
        }
        auto copy = read_whole_file(path, most_index_bytes);
        if (!copy) return std::move(copy).error();
        made.copy_ = std::move(*copy);
        return made;
    }

    [[nodiscard]] span<const std::byte> bytes() const noexcept {
        return mapped_.bytes().empty() ? span<const std::byte>{copy_.data(), copy_.size()} : mapped_.bytes();
    }

private:
    mapped_file mapped_;
    vector<std::byte> copy_;
};

/// The tensors of an index, file by file: those of file f are order[first[f]] to order[first[f + 1] - 1].
struct tensors_by_file {
    vector<std::uint32_t> first;
    vector<std::uint32_t> order;

    [[nodiscard]] bool fill(const shard_index& index) noexcept {
        if (!first.resize(index.file_count() + 2) || !order.resize(index.size())) return false;
        for (std::size_t i = 0; i < index.size(); ++i) ++first[index.file_of(i) + 2];
        for (std::size_t f = 2; f < first.size(); ++f) first[f] += first[f - 1];
        for (std::size_t i = 0; i < index.size(); ++i) order[first[index.file_of(i) + 1]++] = static_cast<std::uint32_t>(i);
        return true;
    }
    [[nodiscard]] span<const std::uint32_t> of(std::size_t file) const noexcept {
        return order.view().subspan(first[file], first[file + 1] - first[file]);
    }
};

/// An index that could not be read may be something else.
[[nodiscard]] inline failure index_failure(failure why, std::string_view index, span<const std::byte> bytes) noexcept {
    const std::size_t count = bytes.size() < first_bytes_size ? bytes.size() : first_bytes_size;
    if (why.code == errc::bad_json) {
        if (const std::string_view what = told_by_first_bytes(bytes.subspan(0, count)); !what.empty()) {
            why = failure{.code = errc::another_format, .detail = "it is "};
            why.detail.append(what);
        } else if (bytes.empty()) {
            why.detail = "the file is empty";
        }
    }
    why.file = index;
    return why;
}

/// Of problems that say the same of many tensors, such as one bad path, the first tells how many there are; the others are marked as
/// told by the code out_of_memory, which no problem has. False when memory ran out.
[[nodiscard]] inline bool tell_once(vector<failure>& problems, std::size_t first) noexcept {
    failure& one = problems[first];
    if (one.detail.empty()) return true;
    const std::string_view detail = one.detail;
    std::size_t more = 0;
    for (std::size_t i = first + 1; i < problems.size(); ++i) {
        if (problems[i].code != one.code || problems[i].detail.view() != detail) continue;
        problems[i].code = errc::out_of_memory;
        ++more;
    }
    if (more == 0) return true;
    text told{one.detail};
    if (!told.append("; and for ") || !told.append_count(more) || !told.append(more == 1 ? " more tensor" : " more tensors"))
        return false;
    one.detail = std::move(told);
    return true;
}

/// A shard that could not be opened, told as what it means for the checkpoint.
[[nodiscard]] inline failure shard_failure(failure why, std::string_view index, std::string_view first_tensor) noexcept {
    if (why.code != errc::file_not_found) return why;
    why.code = errc::missing_shard;
    why.tensor = first_tensor;
    why.detail = "named by ";
    append_quoted(why.detail, file_name_of(index));
    return why;
}

/// What a checkpoint is made of. It has a block of memory of its own, so that it stays where it is when the checkpoint moves.
template <file_source Source>
struct checkpoint_tables {
    struct row {
        std::string_view name;  // again, so that a search needs not look it up in the file's header
        std::uint32_t file;
        std::uint32_t entry;
    };

    vector<basic_tensor_file<Source>> files;
    vector<row> rows;
    name_table names;
    std::size_t unlisted_count = 0;
    text index_path;

    [[nodiscard]] tensor_entry entry(std::size_t i) const noexcept { return files[rows[i].file][rows[i].entry]; }
};

}  // namespace detail

/// The tensors of a checkpoint as a tensor set that stays valid when the checkpoint is moved. Plans hold one.
///   lifetime  of what the checkpoint holds, wherever that is moved to
template <class Source>
class checkpoint_view {
public:
    /// @{
    /// As the checkpoint's own.
    [[nodiscard]] std::size_t size() const noexcept { return tables_ == nullptr ? 0 : tables_->rows.size(); }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return tables_->entry(i); }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        const auto& at = tables_->rows[i];
        return {at.file, tables_->files[at.file].offset_bytes(at.entry), tables_->entry(i).size_bytes()};
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const noexcept { return tables_->files[source].path(); }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return tables_->files[source].source().bytes();
    }
    result<void> read(std::uint32_t source, std::uint64_t offset, span<std::byte> out) const noexcept {
        auto done = tables_->files[source].source().read(offset, out);
        if (!done && done.error().file.empty()) done.error().file = tables_->files[source].path();
        return done;
    }
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        tables_->files[source].source().advise(offset, size_bytes, hint);
    }
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        if constexpr (requires(const Source& file) { file.native_handle(); })
            return tables_->files[source].source().native_handle();
        else
            return no_native_handle;
    }
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        if constexpr (requires(const Source& file) { file.check_size(); })
            return tables_->files[source].source().check_size();
        else
            return {};
    }
    /// @}

private:
    template <class>
    friend class basic_checkpoint;
    explicit checkpoint_view(const detail::checkpoint_tables<Source>* tables) noexcept : tables_{tables} {}

    const detail::checkpoint_tables<Source>* tables_;  // null: the checkpoint was moved from
};

/// The tensors of a directory, a shard index or a single file, numbered by file and offset. A tensor_set.
/// What a path stands for: an index that is named; in a directory its one *.safetensors.index.json; else model.safetensors;
/// else the only .safetensors file; else one complete numbered series. The index decides which file holds which tensor: what
/// it does not list is invisible, wherever it lies, unless checkpoint_options::show_unlisted asks for it.
///   lifetime  views, names and plans die with the checkpoint; a move keeps them. What was moved from has no tensors.
///   units     one file handle for each file; none where there are more than most_open_files of them
template <class Source>
class basic_checkpoint {
public:
    static_assert(file_source<Source>, "safefuse: what a checkpoint should open its files as is no file_source");

    /// What the files are opened as.
    using file_type = basic_tensor_file<Source>;
    /// What a search returns for a name that is not there.
    static constexpr std::size_t npos = ~std::size_t{0};
    /// Views of a temporary checkpoint do not compile.
    static constexpr bool lends_views = true;

    /// Opens all files and checks headers and index against each other; no tensor's bytes are read. The first thing that is
    /// wrong ends it: verify() finds the rest.
    ///   fails   no_checkpoint, several_indexes, incomplete_series, bad_json, bad_index, path_leaves_directory, missing_shard,
    ///           tensor_not_in_shard, tensor_in_two_shards (without an index), and as tensor_file::open
    static result<basic_checkpoint> open(std::string_view path, const checkpoint_options& options = {}) noexcept {
        return open_with(path, options, nullptr);
    }

    /// The same, and all that is remarkable, as verify() tells it, without reading the headers twice. Where it fails, `report` is
    /// as it was.
    static result<basic_checkpoint> open(std::string_view path, const checkpoint_options& options,
                                         checkpoint_report& report) noexcept {
        checkpoint_report fresh;
        auto made = open_with(path, options, &fresh);
        if (made) report = std::move(fresh);
        return made;
    }

    /// Looks for everything that is wrong at once, also where open() fails, with one file open at a time. Headers are read,
    /// tensors are not.
    ///   fails   out_of_memory; all else is in the report
    static result<checkpoint_report> verify(std::string_view path, const checkpoint_options& options = {}) noexcept {
        checkpoint_report report;
        detail::resolved_checkpoint found;
        if (auto done = detail::resolve_checkpoint(path, options.variant, found); !done) {
            if (done.error().code == errc::out_of_memory || !report.add(std::move(done).error()))
                return failure{.code = errc::out_of_memory, .file = path};
        }
        const bool has_room = found.index.empty() ? verify_files(found, options, report) : verify_index(found, options, report);
        if (!has_room) return failure{.code = errc::out_of_memory, .file = path};
        return report;
    }

    /// The path of the shard index that was used; empty without one.
    [[nodiscard]] std::string_view index_path() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_.empty() ? std::string_view{} : tables_[0].index_path.view();
    }
    /// How many files are open.
    [[nodiscard]] std::size_t file_count() const noexcept { return tables_.empty() ? 0 : tables_[0].files.size(); }
    /// File i of the checkpoint, with all its tensors, listed or not.
    [[nodiscard]] const file_type& file(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND { return tables_[0].files[i]; }
    /// How many tensors lie in the files without being in the index.
    [[nodiscard]] std::size_t unlisted_count() const noexcept { return tables_.empty() ? 0 : tables_[0].unlisted_count; }

    /// What plans hold in place of the checkpoint: it stays valid when the checkpoint is moved.
    ///   lifetime  of what the checkpoint holds, wherever that is moved to
    [[nodiscard]] checkpoint_view<Source> stable_view() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return checkpoint_view<Source>{tables_.begin()};
    }

    /// How many tensors the checkpoint has.
    [[nodiscard]] std::size_t size() const noexcept { return stable_view().size(); }
    /// Name, dtype and shape of tensor i.
    ///   lifetime  valid as long as the checkpoint
    [[nodiscard]] tensor_spec spec(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND { return tables_[0].entry(i); }
    /// Where tensor i lies: `source` is the number of its file, `offset` counts from the start of the file.
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept { return stable_view().place(i); }
    /// The path of a file.
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[source].path();
    }
    /// A file's bytes, or an empty span where they must be read.
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[source].source().bytes();
    }
    /// Fills `out` from a byte of a file on.
    ///   fails   as Source::read
    result<void> read(std::uint32_t source, std::uint64_t offset, span<std::byte> out) const noexcept {
        return stable_view().read(source, offset, out);
    }
    /// Tells the system what comes next for a range of a file.
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes, advice hint) const noexcept {
        stable_view().advise(source, offset, size_bytes, hint);
    }
    /// The system's number of an open file; no_native_handle for sources that are none.
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept { return stable_view().native_handle(source); }
    /// Whether a file still has the size it had when it was opened; sources that cannot tell have.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept { return stable_view().check(source); }

    /// The number of the tensor of that name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept {
        if (tables_.empty()) return npos;
        const std::uint32_t i = tables_[0].names.find(name, name_of{tables_[0].rows.data()});
        return i == detail::name_table::npos ? npos : i;
    }

    /// Tensor i where it lies, without a copy.
    ///   fails   as tensor_file::view: not_resident (the source must be read: read() copies the tensor), read_past_end
    [[nodiscard]] result<tensor_view> view(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return file_of(i).view(entry_of(i));
    }
    /// The tensor of that name where it lies, without a copy.
    ///   fails   tensor_not_found, and as view
    [[nodiscard]] result<tensor_view> find(std::string_view name) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return view(i);
    }

    // Of a checkpoint that is about to go there are no views.
    std::string_view index_path() const&& = delete;
    const file_type& file(std::size_t) const&& = delete;
    tensor_spec spec(std::size_t) const&& = delete;
    std::string_view source_name(std::uint32_t) const&& = delete;
    span<const std::byte> source_bytes(std::uint32_t) const&& = delete;
    result<tensor_view> view(std::size_t) const&& = delete;
    result<tensor_view> find(std::string_view) const&& = delete;
    checkpoint_view<Source> stable_view() const&& = delete;

    /// Copies tensor i.
    ///   fails   wrong_buffer_size (`out` must have the tensor's size; it is then untouched), and as Source::read
    result<void> read(std::size_t i, span<std::byte> out) const noexcept { return file_of(i).read(entry_of(i), out); }
    /// Copies the tensor of that name.
    ///   fails   tensor_not_found, and as above
    result<void> read(std::string_view name, span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read(i, out);
    }

    /// Copies a slice of tensor i and touches no other bytes.
    ///   fails   as slice_runs::of; wrong_buffer_size (`out` must have the slice's size; it is then untouched); as Source::read
    result<void> read_slice(std::size_t i, span<const axis_range> ranges, span<std::byte> out) const noexcept {
        return file_of(i).read_slice(entry_of(i), ranges, out);
    }
    /// The same for the tensor of that name.
    ///   fails   tensor_not_found, and as above
    result<void> read_slice(std::string_view name, span<const axis_range> ranges, span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read_slice(i, ranges, out);
    }

private:
    static constexpr std::uint32_t unlisted = detail::name_table::npos;

    using tables = detail::checkpoint_tables<Source>;
    using row = typename tables::row;
    struct name_of {
        const row* rows;
        std::string_view operator()(std::uint32_t i) const noexcept { return rows[i].name; }
    };

    [[nodiscard]] const file_type& file_of(std::size_t i) const noexcept { return tables_[0].files[tables_[0].rows[i].file]; }
    [[nodiscard]] std::size_t entry_of(std::size_t i) const noexcept { return tables_[0].rows[i].entry; }
    [[nodiscard]] failure absent(std::string_view name) const noexcept {
        return {.code = errc::tensor_not_found, .file = index_path(), .tensor = name};
    }

    // `report` is a checkpoint_report* or nullptr: who wants no report does not link what makes one.
    template <class Report>
    SAFEFUSE_NOINLINE static result<basic_checkpoint> open_with(std::string_view path, const checkpoint_options& options,
                                                                Report report) noexcept {
        detail::resolved_checkpoint found;
        if (auto done = detail::resolve_checkpoint(path, options.variant, found); !done) return std::move(done).error();
        basic_checkpoint made;
        if (!made.tables_.reserve(1) || !made.tables_.push({})) return failure{.code = errc::out_of_memory, .file = path};
        auto done = found.index.empty() ? made.open_files(found, options, report) : made.open_index(found, options, report);
        if (!done) return std::move(done).error();
        made.tables_[0].index_path = std::move(found.index);
        return made;
    }

    /// Adds one of `file_count` files; false when memory runs out.
    bool keep(file_type&& file, std::size_t file_count) noexcept {
        if (file_count > most_open_files) file.close_handle();
        return tables_[0].files.push(std::move(file));
    }

    template <class Report>
    result<void> open_index(const detail::resolved_checkpoint& found, const checkpoint_options& options, Report report) noexcept {
        tables& to = tables_[0];
        const failure no_memory{.code = errc::out_of_memory, .file = found.index};
        const auto json = detail::index_text<Source>::open(found.index);  // the index refers to it
        if (!json) return json.error();
        auto index = shard_index::parse(json->bytes());
        if (!index) return detail::index_failure(index.error(), found.index, json->bytes());
        detail::tensors_by_file listed;
        vector<std::uint32_t> number_of, row_of;  // in the index, of the tensors of one file; of the index's tensors
        if (index->size() >= unlisted || !listed.fill(*index) || !to.files.reserve(index->file_count()) ||
            !to.rows.reserve(index->size()) || !row_of.resize_unset(index->size()))
            return no_memory;
        bool shown = false;  // a tensor that is not listed
        for (std::size_t f = 0; f < index->file_count(); ++f) {
            const span<const std::uint32_t> tensors = listed.of(f);
            const text path = detail::join_path(found.directory, index->file(f));
            if (path.empty()) return no_memory;
            auto opened = file_type::open(path, options.read);
            if (!opened)
                return detail::shard_failure(std::move(opened).error(), found.index,
                                             tensors.empty() ? std::string_view{} : index->tensor(tensors[0]));
            number_of.clear();
            if (!number_of.resize(opened->size(), unlisted)) return no_memory;
            for (const std::uint32_t i : tensors) {
                const std::size_t at = opened->index_of(index->tensor(i));
                if (at == file_type::npos)
                    return failure{.code = errc::tensor_not_in_shard, .file = path, .tensor = index->tensor(i)};
                number_of[at] = i;
            }
            for (std::size_t at = 0; at < number_of.size(); ++at) {
                if (number_of[at] == unlisted) {
                    if (!options.show_unlisted || index->find((*opened)[at].name) != shard_index::npos) continue;
                    shown = true;
                } else {
                    row_of[number_of[at]] = static_cast<std::uint32_t>(to.rows.size());
                }
                if (!to.rows.push({(*opened)[at].name, static_cast<std::uint32_t>(f), static_cast<std::uint32_t>(at)}))
                    return no_memory;
            }
            to.unlisted_count += opened->size() - tensors.size();
            if constexpr (!std::is_null_pointer_v<Report>)
                if (!note_shard(*opened, number_of.view(), *index, *report)) return no_memory;
            if (!keep(std::move(*opened), index->file_count())) return no_memory;
        }
        if constexpr (!std::is_null_pointer_v<Report>)
            if (!note_index(found, *index, *report)) return no_memory;
        if (shown) return number_names(found);
        to.names = detail::take_names(std::move(*index), row_of.view());  // the names are the same, now the headers hold them
        return {};
    }

    template <class Report>
    result<void> open_files(const detail::resolved_checkpoint& found, const checkpoint_options& options, Report report) noexcept {
        tables& to = tables_[0];
        const failure no_memory{.code = errc::out_of_memory, .file = found.directory};
        if (!to.files.reserve(found.files.size())) return no_memory;
        for (const text& path : found.files) {
            auto opened = file_type::open(path, options.read);
            if (!opened) return std::move(opened).error();
            if constexpr (!std::is_null_pointer_v<Report>)
                if (!note_file(*opened, *report)) return no_memory;
            if (!to.rows.reserve(to.rows.size() + opened->size())) return no_memory;
            for (std::size_t at = 0; at < opened->size(); ++at)
                if (!to.rows.push(
                        {(*opened)[at].name, static_cast<std::uint32_t>(to.files.size()), static_cast<std::uint32_t>(at)}))
                    return no_memory;
            if (!keep(std::move(*opened), found.files.size())) return no_memory;
        }
        return number_names(found);
    }

    result<void> number_names(const detail::resolved_checkpoint& found) noexcept {
        tables& to = tables_[0];
        const failure no_memory{.code = errc::out_of_memory, .file = found.directory};
        if (to.rows.size() >= detail::name_table::npos || !to.names.reserve(to.rows.size())) return no_memory;
        for (std::uint32_t i = 0; i < to.rows.size(); ++i) {
            const auto added = to.names.insert(to.rows[i].name, i, name_of{to.rows.data()});
            if (added.what == detail::name_table::outcome::out_of_memory) return no_memory;
            if (added.what == detail::name_table::outcome::already_there)
                return in_two_shards(to.rows[i].name, source_name(to.rows[i].file), source_name(to.rows[added.index].file));
        }
        return {};
    }

    [[nodiscard]] static failure in_two_shards(std::string_view tensor, std::string_view file,
                                               std::string_view first_file) noexcept {
        failure why{.code = errc::tensor_in_two_shards, .file = file, .tensor = tensor, .detail = "it is also in "};
        detail::append_quoted(why.detail, detail::file_name_of(first_file));
        return why;
    }

    // Each returns false when memory runs out.

    static bool verify_index(const detail::resolved_checkpoint& found, const checkpoint_options& options,
                             checkpoint_report& report) noexcept {
        const auto json = detail::index_text<Source>::open(found.index);
        if (!json) return json.error().code != errc::out_of_memory && report.add(failure{json.error()});
        vector<failure> problems;
        const auto index = shard_index::parse(json->bytes(), problems);
        for (std::size_t p = 0; p < problems.size(); ++p) {
            failure& each = problems[p];
            if (each.code == errc::out_of_memory) continue;  // told already
            each.file = found.index;
            if (!detail::tell_once(problems, p) || !report.add(std::move(each))) return false;
        }
        if (!index) {
            failure why = detail::index_failure(index.error(), found.index, json->bytes());
            return why.code != errc::out_of_memory && report.add(std::move(why));
        }

        detail::tensors_by_file listed;
        if (!listed.fill(*index)) return false;
        bool all_found = problems.empty();
        for (std::size_t f = 0; f < index->file_count(); ++f) {
            const std::size_t failures_before = report.failures_.size();
            if (!verify_shard(found, options, *index, f, listed.of(f), report)) return false;
            all_found = all_found && report.failures_.size() == failures_before;
        }
        return all_found ? note_index(found, *index, report) : note_unused_files(found, *index, report);
    }

    /// Notes what is remarkable about an index whose tensors were all found.
    static bool note_index(const detail::resolved_checkpoint& found, const shard_index& index,
                           checkpoint_report& report) noexcept {
        if (index.total_size_bytes() != unknown && index.total_size_bytes() != report.tensor_bytes_ &&
            !report.add(checkpoint_note{.what = checkpoint_note::kind::total_size_differs,
                                        .file = found.index,
                                        .expected = index.total_size_bytes(),
                                        .actual = report.tensor_bytes_}))
            return false;
        return note_unused_files(found, index, report);
    }

    static bool verify_shard(const detail::resolved_checkpoint& found, const checkpoint_options& options,
                             const shard_index& index, std::size_t f, span<const std::uint32_t> tensors,
                             checkpoint_report& report) noexcept {
        const text path = detail::join_path(found.directory, index.file(f));
        if (path.empty()) return false;
        auto opened = file_type::open(path, options.read);
        if (!opened)
            return opened.error().code != errc::out_of_memory &&
                   report.add(detail::shard_failure(std::move(opened).error(), found.index,
                                                    tensors.empty() ? std::string_view{} : index.tensor(tensors[0])));
        vector<std::uint32_t> number_of;
        if (!number_of.resize(opened->size(), unlisted)) return false;
        for (const std::uint32_t i : tensors) {
            const std::size_t at = opened->index_of(index.tensor(i));
            if (at != file_type::npos)
                number_of[at] = i;
            else if (!report.add(failure{.code = errc::tensor_not_in_shard, .file = path, .tensor = index.tensor(i)}))
                return false;
        }
        return note_shard(*opened, number_of.view(), index, report);
    }

    /// Counts what a shard holds, and notes what is remarkable. `number_of` gives the numbers of its tensors in the index.
    static bool note_shard(const file_type& file, span<const std::uint32_t> number_of, const shard_index& index,
                           checkpoint_report& report) noexcept {
        ++report.file_count_;
        checkpoint_note none{.what = checkpoint_note::kind::unlisted_tensors, .file = file.path(), .count = 0};
        checkpoint_note other{.what = checkpoint_note::kind::superseded_tensors, .file = file.path(), .count = 0};
        for (std::size_t at = 0; at < number_of.size(); ++at) {
            if (number_of[at] != unlisted) {
                ++report.tensor_count_;
                report.count_bytes(file[at].size_bytes());
                continue;
            }
            checkpoint_note& note = index.find(file[at].name) == shard_index::npos ? none : other;
            if (note.count++ == 0) note.tensor = file[at].name;
        }
        return report.add_tolerated(file.path(), file.header()) && (none.count == 0 || report.add(std::move(none))) &&
               (other.count == 0 || report.add(std::move(other)));
    }

    /// The same for a file that no index lists.
    static bool note_file(const file_type& file, checkpoint_report& report) noexcept {
        ++report.file_count_;
        report.tensor_count_ += file.size();
        report.count_bytes(file.header().data_bytes() - file.header().gap_bytes());
        return report.add_tolerated(file.path(), file.header());
    }

    static bool note_unused_files(const detail::resolved_checkpoint& found, const shard_index& index,
                                  checkpoint_report& report) noexcept {
        vector<text> unused;
        detail::name_table used;
        bool has_room = used.reserve(index.file_count());
        const auto used_name = [&](std::uint32_t f) noexcept {
            std::string_view name = index.file(f);
            while (name.starts_with("./")) name.remove_prefix(2);
            return name;
        };
        for (std::uint32_t f = 0; has_room && f < index.file_count(); ++f)
            has_room = used.insert(used_name(f), f, used_name).what != detail::name_table::outcome::out_of_memory;
        if (!has_room) return false;
        // A directory that cannot be listed is no news: its files were opened, or were not, above.
        (void)detail::list_directory(found.directory, [&](std::string_view name, bool is_directory) noexcept {
            if (is_directory || name.starts_with('.') || !name.ends_with(tensor_file_ending)) return true;
            if (used.find(name, used_name) != detail::name_table::npos) return true;
            text copy{name};
            has_room = copy.size() == name.size() && unused.push(std::move(copy));
            return has_room;
        });
        if (!has_room || !detail::sort_naturally(unused)) return false;
        for (const text& name : unused) {
            text path = detail::join_path(found.directory, name);
            if (path.empty() || !report.add(checkpoint_note{.what = checkpoint_note::kind::unused_file, .file = std::move(path)}))
                return false;
        }
        return true;
    }

    static bool verify_files(const detail::resolved_checkpoint& found, const checkpoint_options& options,
                             checkpoint_report& report) noexcept {
        // One file is open at a time, so the names that must be compared are copied.
        struct seen {
            std::size_t first;
            std::uint32_t size;
            std::uint32_t file;
        };
        vector<char> names;
        vector<seen> tensors;
        detail::name_table table;
        const auto seen_name = [&](std::uint32_t i) noexcept {
            return detail::characters_at(names.data() + tensors[i].first, tensors[i].size);
        };
        for (std::size_t f = 0; f < found.files.size(); ++f) {
            auto opened = file_type::open(found.files[f], options.read);
            if (!opened) {
                if (opened.error().code == errc::out_of_memory || !report.add(std::move(opened).error())) return false;
                continue;
            }
            if (!note_file(*opened, report)) return false;
            for (std::size_t at = 0; found.files.size() > 1 && at < opened->size(); ++at) {
                const std::string_view name = (*opened)[at].name;
                const std::uint32_t number = static_cast<std::uint32_t>(tensors.size());
                if (!tensors.push({names.size(), static_cast<std::uint32_t>(name.size()), static_cast<std::uint32_t>(f)}) ||
                    !names.append(name.data(), name.size()))
                    return false;
                const auto added = table.insert(name, number, seen_name);
                if (added.what == detail::name_table::outcome::out_of_memory) return false;
                if (added.what == detail::name_table::outcome::already_there &&
                    !report.add(in_two_shards(name, found.files[f], found.files[tensors[added.index].file])))
                    return false;
            }
        }
        return true;
    }

    basic_checkpoint() noexcept = default;

    vector<tables> tables_;  // one, or none after a move; a list's elements stay where they are when it moves
};

/// A checkpoint whose files are mapped: views are free.
///   caution   as mapped_file, and for the shard index while it is opened
using checkpoint = basic_checkpoint<mapped_file>;
/// A checkpoint whose files are read by offset.
using positional_checkpoint = basic_checkpoint<positional_file>;

static_assert(tensor_set<checkpoint> && tensor_set<positional_checkpoint>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
