// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: compares the bytes that a rewrite sends with the tensors of another set.
#ifndef SAFEFUSE_WRITE_DETAIL_REWRITE_COMPARISON_HPP
#define SAFEFUSE_WRITE_DETAIL_REWRITE_COMPARISON_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/detail/rewrite_run.hpp>
#include <safefuse/write/rewrite_plan.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Appends a dtype and a shape for messages: BF16 [128, 768].
inline void append_kind(text& out, const tensor_spec& spec) noexcept {
    out.append(name(spec.type));
    out.append(" [");
    for (std::size_t a = 0; a < spec.shape.size(); ++a) {
        if (a != 0) out.append(", ");
        out.append_number(spec.shape[a]);
    }
    out.append("]");
}

/// The failure for a tensor of the other set that differs from the rewrite's.
[[nodiscard]] SAFEFUSE_COLD inline failure other_tensor(const tensor_set_ref& other, std::size_t i,
                                                        errc code, text detail) noexcept {
    return {.code = code,
            .file = text{other.source_name(other.place(i).source)},
            .tensor = text{other.spec(i).name},
            .detail = std::move(detail)};
}

/// Checks that the set gives a tensor as many bytes as its dtype and shape ask for, within 64 bits.
///   fails   size_mismatch
inline result<void> check_place(const tensor_set_ref& other, std::uint32_t i,
                                const tensor_spec& spec) noexcept {
    const tensor_location place = other.place(i);
    std::uint64_t size_bytes = 0, end = 0;
    if (tensor_size(spec.type, spec.shape, size_bytes) == size_verdict::fits &&
        size_bytes == place.size_bytes && checked_add(place.offset, place.size_bytes, end))
        return {};
    failure error = other_tensor(other, i, errc::size_mismatch, {});
    error.expected = size_bytes;
    error.actual = place.size_bytes;
    return error;
}

/// Finds the counterpart of every tensor of a rewrite in another set, by name.
///   fails   tensor_not_found, unexpected_tensor, dtype_mismatch, shape_mismatch, out_of_memory
inline result<void> match_tensors(vector<std::uint32_t>& counterpart,
                                  span<const tensor_spec> tensors,
                                  const tensor_set_ref& other) noexcept {
    const failure no_memory{.code = errc::out_of_memory};
    name_table table;
    const auto names = [&](std::uint32_t i) noexcept { return tensors[i].name; };
    if (!table.reserve(tensors.size()) || !counterpart.resize(tensors.size(), no_index))
        return no_memory;
    for (std::uint32_t t = 0; t < tensors.size(); ++t)
        static_cast<void>(table.insert(tensors[t].name, t, names));  // memory was reserved
    source_check check{other};
    for (std::uint32_t i = 0; i < other.size(); ++i) {
        if (auto same = check.before(other.place(i).source); !same) return same;
        const tensor_spec spec = other.spec(i);
        const std::uint32_t t = table.find(spec.name, names);
        if (t == name_table::npos)
            return other_tensor(other, i, errc::unexpected_tensor,
                                "the rewrite makes no tensor of that name");
        counterpart[t] = i;
        const bool same = same_shape(spec.shape, tensors[t].shape);
        if (same && spec.type == tensors[t].type) {
            if (auto fits = check_place(other, i, spec); !fits) return fits;
            continue;
        }
        text kinds{"expected "};
        append_kind(kinds, tensors[t]);
        kinds.append(", found ");
        append_kind(kinds, spec);
        return other_tensor(other, i, same ? errc::dtype_mismatch : errc::shape_mismatch,
                            std::move(kinds));
    }
    for (std::uint32_t t = 0; t < tensors.size(); ++t)
        if (counterpart[t] == no_index)
            return failure{.code = errc::tensor_not_found, .tensor = text{tensors[t].name}};
    return {};
}

/// Compares the bytes that a rewrite sends with the tensors of another set.
class rewrite_comparison {
public:
    rewrite_comparison(span<const tensor_spec> tensors, const tensor_set_ref& other,
                       span<const std::uint32_t> counterpart) noexcept
        : tensors_{tensors},
          other_{other},
          counterpart_{counterpart},
          check_{other_},
          release_{other_, advice::release} {}

    /// Accepts bytes of tensor t from rewrite_run, starting at byte `offset` of the tensor.
    ///   fails   bytes_differ, read_past_end, file_changed, out_of_memory, and as reading does
    result<void> operator()(std::uint32_t t, std::uint64_t offset,
                            span<const std::byte> bytes) noexcept {
        const tensor_location place = other_.place(counterpart_[t]);
        if (!other_.source_bytes(place.source).empty()) {
            if (exchange(checked_for_, t) != t) check_.forget();
            if (auto same = check_.before(place.source); !same) return same;
        }
        for (std::size_t done = 0; done < bytes.size();) {
            const std::size_t left = bytes.size() - done;
            const std::size_t piece = left < run_piece_bytes ? left : run_piece_bytes;
            if (auto same = compare(t, place, offset + done, bytes.subspan(done, piece)); !same)
                return same;
            done += piece;
        }
        return {};
    }

private:
    result<void> compare(std::uint32_t t, const tensor_location& place, std::uint64_t offset,
                         span<const std::byte> bytes) noexcept {
        const std::uint64_t begin = place.offset + offset;
        const span<const std::byte> resident = other_.source_bytes(place.source);
        const std::byte* theirs = nullptr;
        if (resident.empty()) {
            if (!buffer_.reserve(run_piece_bytes)) return failure{.code = errc::out_of_memory};
            theirs = buffer_.data();
            if (auto read = other_.read(place.source, begin, {buffer_.data(), bytes.size()}); !read)
                return read;
        } else {
            auto there = check_resident(other_, place.source, resident, begin, bytes.size());
            if (!there) {
                there.error().tensor = text{tensors_[t].name};
                return there;
            }
            theirs = resident.data() + begin;
        }
        if (std::memcmp(theirs, bytes.data(), bytes.size()) != 0) {
            std::size_t at = 0;
            while (theirs[at] == bytes[at]) ++at;
            return failure{.code = errc::bytes_differ,
                           .file = text{other_.source_name(place.source)},
                           .tensor = text{tensors_[t].name},
                           .offset = offset + at};
        }
        release_.used(place.source, begin, begin + bytes.size());
        return {};
    }

    span<const tensor_spec> tensors_;
    const tensor_set_ref& other_;
    span<const std::uint32_t> counterpart_;
    vector<std::byte> buffer_;
    std::uint32_t checked_for_ = ~std::uint32_t{0};
    source_check check_;
    source_release release_;
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
