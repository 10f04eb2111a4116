// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the text of a shard index, its tensors grouped by file, and its problems.
#ifndef SAFEFUSE_READ_DETAIL_SHARD_INDEX_TEXT_HPP
#define SAFEFUSE_READ_DETAIL_SHARD_INDEX_TEXT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/first_bytes.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/tensor/byte_source.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Far more than any index needs: the largest known has 17 MB.
inline constexpr std::uint64_t most_index_bytes = std::uint64_t{1} << 30;

/// The text of an index: mapped if tensor files are mapped, otherwise a copy.
template <file_source Source>
class index_text {
public:
    /// Opens the text of an index.
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
        return mapped_.bytes().empty() ? span<const std::byte>{copy_.data(), copy_.size()}
                                       : mapped_.bytes();
    }

private:
    mapped_file mapped_;
    vector<std::byte> copy_;
};

/// The tensors of an index grouped by file. Those of file f are order[first[f]] to order[first[f +
/// 1] - 1].
struct tensors_by_file {
    vector<std::uint32_t> first;
    vector<std::uint32_t> order;

    [[nodiscard]] bool fill(const shard_index& index) noexcept {
        if (!first.resize(index.file_count() + 2) || !order.resize(index.size())) return false;
        for (std::size_t i = 0; i < index.size(); ++i) ++first[index.file_of(i) + 2];
        for (std::size_t f = 2; f < first.size(); ++f) first[f] += first[f - 1];
        for (std::size_t i = 0; i < index.size(); ++i)
            order[first[index.file_of(i) + 1]++] = static_cast<std::uint32_t>(i);
        return true;
    }
    [[nodiscard]] span<const std::uint32_t> of(std::size_t file) const noexcept {
        return order.view().subspan(first[file], first[file + 1] - first[file]);
    }
};

/// Explains an index that cannot be parsed: the file may be of another format.
[[nodiscard]] inline failure index_failure(failure why, std::string_view index,
                                           span<const std::byte> bytes) noexcept {
    const std::size_t count = bytes.size() < first_bytes_size ? bytes.size() : first_bytes_size;
    if (why.code == errc::bad_json) {
        if (const std::string_view what = told_by_first_bytes(bytes.subspan(0, count));
            !what.empty()) {
            why = failure{.code = errc::another_format, .detail = "it is "};
            why.detail.append(what);
        } else if (bytes.empty()) {
            why.detail = "the file is empty";
        }
    }
    why.file = index;
    return why;
}

/// An index that lists no tensors would make a checkpoint of nothing, whatever is in the files
/// beside it.
[[nodiscard]] inline failure empty_index(std::string_view index) noexcept {
    return {.code = errc::bad_index,
            .file = index,
            .detail = "weight_map is empty: it lists no tensors"};
}

/// Of problems that say the same of many tensors, such as one bad path, the first tells how many
/// there are; the others are marked as told by the code out_of_memory, which no problem has. False
/// when memory ran out.
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
    if (!told.append("; and for ") || !told.append_count(more) ||
        !told.append(more == 1 ? " more tensor" : " more tensors"))
        return false;
    one.detail = std::move(told);
    return true;
}

/// Turns the failure to open a shard into a failure of the checkpoint.
[[nodiscard]] inline failure shard_failure(failure why, std::string_view index,
                                           std::string_view first_tensor) noexcept {
    if (why.code != errc::file_not_found) return why;
    why.code = errc::missing_shard;
    why.tensor = first_tensor;
    why.detail = "named by ";
    append_quoted(why.detail, file_name_of(index));
    return why;
}

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
