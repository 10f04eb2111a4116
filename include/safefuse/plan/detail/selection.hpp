// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the third stage of a plan: the range of every extent that moves.
//
//     extents, options -> selection
//
// A selection has one half-open range per extent, so selecting experts and cutting for tensor
// parallelism work alike. The destination is laid out for the lengths of the ranges.
#ifndef SAFEFUSE_PLAN_DETAIL_SELECTION_HPP
#define SAFEFUSE_PLAN_DETAIL_SELECTION_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/detail/compose.hpp>
#include <safefuse/plan/detail/inventory.hpp>
#include <safefuse/plan/plan_options.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The range of every extent that moves.
struct selection {
    layout_args local;               ///< the lengths of the ranges: the destination's extents
    kept_range kept[max_dims]{};     ///< by dim
    std::uint64_t expert_count = 0;  ///< number of experts that move, over all groups of a chain

    void keep(std::size_t dim, std::uint64_t begin, std::uint64_t end) noexcept {
        kept[dim] = {begin, end - begin};
        local.values[dim] = end - begin;
    }
};

/// The part of [0, extent) that the options ask for: a range, or one rank's share.
///   fails   out_of_range
///   @post   the ranges of all ranks are disjoint and cover the extent
[[nodiscard]] inline result<kept_range> slice_of(std::string_view name, std::uint64_t extent,
                                                 const plan_options& options) noexcept {
    if (options.slice_ranks > 1) {
        if (extent % options.slice_ranks != 0 || options.slice_rank >= options.slice_ranks)
            return refuse(errc::out_of_range, {},
                          "the extent is not a multiple of the number of ranks, or there is no "
                          "such rank",
                          options.slice_ranks, extent);
        const std::uint64_t share = extent / options.slice_ranks;
        return kept_range{share * options.slice_rank, share};
    }
    const std::uint64_t first = options.slice_first;
    const std::uint64_t end = options.slice_end == to_end ? extent : options.slice_end;
    if (first > end || end > extent)
        return refuse(errc::out_of_range, {}, name, extent, first > end ? first : end);
    return kept_range{first, end - first};
}

/// Keeps the slice of one extent other than E. Experts have options of their own.
///   fails   out_of_range
[[nodiscard]] inline result<void> select_slice(selection& of, const layout_args& extents,
                                               std::string_view name,
                                               const plan_options& options) noexcept {
    const std::uint8_t dim = symbol_of(extents, name);
    if (dim == no_dim || dim == 0)
        return refuse(errc::out_of_range, {}, "the layout has no extent of that name");
    auto range = slice_of(name, extents.values[dim], options);
    if (!range) return std::move(range).error();
    of.keep(dim, range->begin, range->begin + range->count);
    return {};
}

/// Keeps the slices of all extents that the options name, with spaces between the names.
///   fails   out_of_range
[[nodiscard]] inline result<void> select_slices(selection& of, const layout_args& extents,
                                                const plan_options& options) noexcept {
    for (std::string_view names = options.sliced_extent; !names.empty();) {
        std::size_t size = 0;
        while (size < names.size() && names[size] != ' ') ++size;
        if (size != 0)
            if (auto done = select_slice(of, extents, names.substr(0, size), options); !done)
                return done;
        names.remove_prefix(size < names.size() ? size + 1 : size);
    }
    return {};
}

/// Keeps the experts that the options ask for, in each group as many as it has.
///   fails   out_of_range
[[nodiscard]] inline result<void> select_experts(selection& of, const expert_groups& groups,
                                                 const layout_args& extents,
                                                 const plan_options& options) noexcept {
    std::uint64_t most = 0;
    for (const group_symbols& group : groups.of_tensor)
        if (group.count != no_dim && extents.values[group.count] > most)
            most = extents.values[group.count];
    const std::uint64_t first = options.first_expert;
    const std::uint64_t end = options.end_expert == to_end ? most : options.end_expert;
    if (first > end || end > most)
        return refuse(errc::out_of_range, {}, "E", most, first > end ? first : end);
    for (const group_symbols& group : groups.of_tensor) {
        if (group.count == no_dim) continue;
        const std::uint64_t count = extents.values[group.count];
        of.keep(group.count, first < count ? first : count, end < count ? end : count);
    }
    return {};
}

/// Number of experts that move, in the longest chain of groups.
[[nodiscard]] inline std::uint64_t count_kept(const selection& of,
                                              const expert_groups& groups) noexcept {
    std::uint64_t most = 0;
    for (const group_symbols& group : groups.of_tensor) {
        if (group.count == no_dim) continue;
        const std::uint64_t count =
            groups.first_number(group, of.local) + of.local.values[group.count];
        if (count > most) most = count;
    }
    return most;
}

/// The ranges that move. What the options do not name moves as a whole.
///   fails   out_of_range
///   @post   local.values[s] = kept[s].count, and kept[s] is inside [0, extents.values[s])
[[nodiscard]] inline result<selection> select_ranges(const expert_groups& groups,
                                                     const layout_args& extents,
                                                     const plan_options& options) noexcept {
    selection out{.local = extents};
    for (std::size_t s = 0; s < extents.dim_count; ++s) out.keep(s, 0, extents.values[s]);
    if (auto done = select_experts(out, groups, extents, options); !done)
        return std::move(done).error();
    if (auto done = select_slices(out, extents, options); !done) return std::move(done).error();
    out.expert_count = count_kept(out, groups);
    return out;
}

/// Converts the kept range of one axis of a part to entries of a field. Axes that the field lacks,
/// or has one entry for, are kept as a whole.
///   fails   mapping_error::splits_block (the range begins or ends inside a block; an incomplete
///           last block is a valid end)
[[nodiscard]] constexpr mapping_error entries_of(kept_range kept, std::uint64_t extent,
                                                 std::uint64_t block_size,
                                                 kept_range& entries) noexcept {
    entries = {0, 1};
    if (block_size == 0 || block_size == whole_axis) return mapping_error::none;
    const bool ends_whole = kept.count % block_size == 0 || kept.begin + kept.count == extent;
    if (kept.begin % block_size != 0 || !ends_whole) return mapping_error::splits_block;
    entries = {kept.begin / block_size,
               kept.count / block_size + (kept.count % block_size == 0 ? 0 : 1)};
    return mapping_error::none;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
