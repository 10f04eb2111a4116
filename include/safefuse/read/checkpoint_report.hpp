// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the problems of a checkpoint, and notes about it.
#ifndef SAFEFUSE_READ_CHECKPOINT_REPORT_HPP
#define SAFEFUSE_READ_CHECKPOINT_REPORT_HPP

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
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// An observation about a checkpoint that is not a failure.
struct checkpoint_note {
    /// The kind of observation.
    enum class kind : std::uint8_t {
        unlisted_tensors,    ///< `count` tensors of a shard are not in the index; `tensor` is the
                             ///< first
        superseded_tensors,  ///< `count` tensors of a shard are, by the index, in another shard:
                             ///< the copies here are invisible
        unused_file,         ///< a .safetensors file beside the shards that the index does not name
        total_size_differs,  ///< the index's total_size is `expected`, the listed tensors sum to
                             ///< `actual`: harmless
        gap_bytes,       ///< `count` bytes before or between the tensors of a file belong to none
                         ///< (read_options::gaps)
        trailing_bytes,  ///< `count` bytes follow the last tensor of a file
                         ///< (read_options::trailing_bytes)
    };

    kind what{};                       ///< the kind of note
    text file{};                       ///< path of the file
    text tensor{};                     ///< the first tensor; empty if the note is not about tensors
    std::uint64_t count = unknown;     ///< number of tensors or bytes, depending on the kind
    std::uint64_t expected = unknown;  ///< the value in the index
    std::uint64_t actual = unknown;    ///< the value found

    /// One sentence with everything known about the note. It is safe to print on a terminal: see
    /// append_printable.
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
            counted(" tensor that the index does not list",
                    " tensors that the index does not list");
            break;
        case kind::superseded_tensors:
            counted(" tensor that the index takes from another shard",
                    " tensors that the index takes from other shards");
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
            out.append(what == kind::gap_bytes ? " between the tensors belong to no tensor"
                                               : " after the last tensor");
            break;
        }
        return out;
    }
};

/// All problems of a checkpoint, and notes about it.
class checkpoint_report {
public:
    /// Whether open() would succeed.
    [[nodiscard]] bool is_sound() const noexcept { return failures_.empty(); }
    /// All problems, in the order of the files.
    [[nodiscard]] span<const failure> failures() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return failures_.view();
    }
    /// Observations that are not failures.
    [[nodiscard]] span<const checkpoint_note> notes() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return notes_.view();
    }
    /// The number of files that could be read.
    [[nodiscard]] std::size_t file_count() const noexcept { return file_count_; }
    /// The number of tensors that were found.
    [[nodiscard]] std::size_t tensor_count() const noexcept { return tensor_count_; }
    /// The sum of the bytes of those tensors; `unknown` if it overflows, which is possible in files
    /// with gaps.
    [[nodiscard]] std::uint64_t tensor_bytes() const noexcept { return tensor_bytes_; }

private:
    template <class>
    friend class basic_checkpoint;

    void count_bytes(std::uint64_t more) noexcept {
        if (!detail::checked_add(tensor_bytes_, more, tensor_bytes_)) tensor_bytes_ = unknown;
    }
    [[nodiscard]] bool add(failure&& found) noexcept { return failures_.push(std::move(found)); }
    [[nodiscard]] SAFEFUSE_NOINLINE bool add(checkpoint_note&& found) noexcept {
        return notes_.push(std::move(found));
    }
    /// Adds notes about deviations in a file that the options accept.
    [[nodiscard]] SAFEFUSE_NOINLINE bool add_tolerated(std::string_view file,
                                                       const header& read) noexcept {
        using kind = checkpoint_note::kind;
        const std::uint64_t gap_bytes = read.gap_bytes(), trailing_bytes = read.trailing_bytes();
        return (gap_bytes == 0 ||
                add({.what = kind::gap_bytes, .file = file, .count = gap_bytes})) &&
               (trailing_bytes == 0 ||
                add({.what = kind::trailing_bytes, .file = file, .count = trailing_bytes}));
    }

    vector<failure> failures_;
    vector<checkpoint_note> notes_;
    std::size_t file_count_ = 0;
    std::size_t tensor_count_ = 0;
    std::uint64_t tensor_bytes_ = 0;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
