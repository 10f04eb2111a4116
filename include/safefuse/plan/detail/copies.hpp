// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the last stage of a plan: the strided copies that make the outputs.
//
//     inventory, geometry, selection, output_field -> copy_block[]
//
// A plan is the composition to o from^-1 of two layouts. compose.hpp composes one axis of one part.
// Here the axes of a part become one loop nest, entries become bytes, and experts with a tensor
// each become a block each. At the end, neighbouring blocks are joined.
#ifndef SAFEFUSE_PLAN_DETAIL_COPIES_HPP
#define SAFEFUSE_PLAN_DETAIL_COPIES_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/compose.hpp>
#include <safefuse/plan/detail/geometry.hpp>
#include <safefuse/plan/detail/inventory.hpp>
#include <safefuse/plan/detail/outputs.hpp>
#include <safefuse/plan/detail/selection.hpp>
#include <safefuse/tensor/dtype.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

static_assert(max_loops <= max_copy_loops);

/// The copies of a plan.
struct copy_list {
    vector<copy_block> blocks;        ///< copied
    vector<copy_block> equal_blocks;  ///< only compared, as in copy_plan
};

/// One part on both sides of a plan.
struct moved_part {
    const mapping& from;
    const part_mapping& from_part;
    const mapping& to;
    const part_mapping& to_part;
    bool from_per_expert;  ///< the source has a tensor per expert
    bool to_per_expert;    ///< the destination has a tensor per expert
    /// The experts that move. One entry if the part belongs to no expert.
    kept_range experts;
    bool has_experts;

    /// Whether the expert index is one of the loops. Otherwise each expert has its own copies.
    [[nodiscard]] bool loops_over_experts() const noexcept {
        return has_experts && !from_per_expert && !to_per_expert;
    }
};

// ---------------------------------------------------------------------------------------- loops

/// The range of one axis of a part that moves, in entries. Axis 0 is the expert index,
/// trailing_axis the field's own axis. Those between are the part's.
[[nodiscard]] inline mapping_error range_of(kept_range& range, const moved_part& part,
                                            std::size_t axis, const field_form& form,
                                            const layout_args& extents,
                                            const selection& kept) noexcept {
    if (axis == 0) {
        range = part.experts;
        return mapping_error::none;
    }
    if (axis == trailing_axis) {
        range = {0, form.entries > 1 ? form.entries : 1};
        return mapping_error::none;
    }
    const std::uint8_t dim = symbol_of(extents, part.to_part.extents[axis - 1]);
    return entries_of(kept.kept[dim], extents.values[dim], form.block_size[axis - 1], range);
}

/// Composes all axes of a part: the expert index if it is a loop, the part's own axes, the field's
/// own axis. Units: entries.
///   @post   the nest visits (from(i), to(i - begin)) for every kept index i of the part
[[nodiscard]] inline mapping_error compose_part(loop_nest& nest, const moved_part& part,
                                                const field_form& form, const layout_args& extents,
                                                const selection& kept) noexcept {
    for (std::size_t axis = part.loops_over_experts() ? 0 : 1; axis <= trailing_axis; ++axis) {
        if (axis > part.to_part.part_axes && axis != trailing_axis) continue;
        kept_range range;
        auto error = range_of(range, part, axis, form, extents, kept);
        if (error == mapping_error::none)
            error = compose_axis(nest, {part.from, part.from_part, axis},
                                 {part.to, part.to_part, axis}, range);
        if (error != mapping_error::none || nest.is_empty) return error;
    }
    coalesce(nest);
    nest.from_offset += first_entry(part.from, part.from_part);
    nest.to_offset += first_entry(part.to, part.to_part);
    return mapping_error::none;
}

/// A loop nest in bytes: the loops of a block, and the bits of an entry for its offsets.
struct byte_loops {
    copy_block shape{};
    bool whole_bytes = true;  ///< false: some run or stride is not a whole number of bytes
};

/// Converts entries to bits. An innermost loop over contiguous entries becomes the run.
[[nodiscard]] inline byte_loops in_bytes(const loop_nest& nest, std::uint64_t entry_bits) noexcept {
    byte_loops out;
    std::size_t loops = nest.count;
    std::uint64_t run_bits = entry_bits;
    if (loops > 0 && nest.loops[loops - 1].from_stride == 1 && nest.loops[loops - 1].to_stride == 1)
        run_bits *= nest.loops[--loops].extent;
    out.whole_bytes = run_bits % 8 == 0;
    out.shape.run_bytes = run_bits / 8;
    for (std::size_t i = 0; i < loops; ++i) {
        const std::uint64_t from_bits = nest.loops[i].from_stride * entry_bits;
        const std::uint64_t to_bits = nest.loops[i].to_stride * entry_bits;
        out.whole_bytes = out.whole_bytes && from_bits % 8 == 0 && to_bits % 8 == 0;
        out.shape.loops[out.shape.loop_count++] = {nest.loops[i].extent, from_bits / 8,
                                                   to_bits / 8};
    }
    return out;
}

// --------------------------------------------------------------------------------------- blocks

/// The blocks of one part: one, or one for each expert that moves.
///   fails   splits_block (a copy begins or ends inside a byte), unnested_groups, out_of_memory
[[nodiscard]] inline result<void> emit_part(const inventory& of, const part_origin& origin,
                                            std::uint32_t field, const moved_part& part,
                                            const loop_nest& nest, const output_field& into,
                                            vector<copy_block>& blocks) noexcept {
    const std::uint64_t entry_bits = bits(into.type);
    const byte_loops bytes = in_bytes(nest, entry_bits);
    const bool one_block = part.loops_over_experts();
    const axis_pieces from_experts{part.from, part.from_part, 0};
    const axis_pieces to_experts{part.to, part.to_part, 0};
    const std::uint64_t count = one_block ? 1 : part.experts.count;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t e = part.experts.begin + i;
        std::uint64_t from_entry = nest.from_offset, to_entry = nest.to_offset;
        if (!one_block) from_entry += from_experts.entry(e);
        if (!one_block) to_entry += to_experts.entry(i);
        const std::uint64_t from_bits = from_entry * entry_bits, to_bits = to_entry * entry_bits;
        if (!bytes.whole_bytes || from_bits % 8 != 0 || to_bits % 8 != 0)
            return misplaced(mapping_error::splits_block, {});
        const std::uint32_t index = of.at(origin.tensor, field, part.from_per_expert ? e : 0);
        const tensor_location place = of.set.place(index);
        copy_block block = bytes.shape;
        block.source = place.source;
        block.output = into.first_output + static_cast<std::uint32_t>(part.to_per_expert ? i : 0);
        block.source_offset = place.offset + from_bits / 8;
        block.destination_offset = to_bits / 8;
        // a user's term may be wrong: the copy must read only inside its own tensor
        if (!lies_inside(from_bits / 8, block.source_extent_bytes(), place.size_bytes))
            return refuse(errc::shape_mismatch, {},
                          "a term of the layout reaches beyond its tensor");
        if (!blocks.push(block)) return no_memory();
    }
    return {};
}

/// Composes part `p` of an output and adds its blocks.
///   fails   splits_block, unnested_groups, out_of_memory
[[nodiscard]] inline result<void> copy_part(const inventory& of, const geometry& shapes,
                                            const selection& kept, const output_field& into,
                                            std::size_t p, vector<copy_block>& blocks) noexcept {
    const part_origin& origin = into.origins.parts[p];
    const tensor_description& from_tensor = of.layout->tensors[origin.tensor];
    const field_form& form = *shapes.forms[into.origins.field];
    const mapping from = place(from_tensor, form, shapes.extents);
    const part_mapping& to_part = into.placed.parts[p];
    const std::uint8_t group = symbol_of(shapes.extents, to_part.experts);
    const moved_part part{from,
                          from.parts[origin.part],
                          into.placed,
                          to_part,
                          from_tensor.per_expert(),
                          into.tensor->per_expert(),
                          group == no_dim ? kept_range{0, 1} : kept.kept[group],
                          group != no_dim};
    loop_nest nest;
    const auto error = compose_part(nest, part, form, shapes.extents, kept);
    if (error != mapping_error::none) return misplaced(error, {});
    if (nest.is_empty) return {};
    return emit_part(of, origin, into.origins.field, part, nest, into, blocks);
}

/// Whether a part is stored at the place of an earlier part: they share the field.
[[nodiscard]] inline bool lies_on_another(const mapping& placed, std::size_t part) noexcept {
    bool any_shared = false;
    for (std::size_t a = 0; a < placed.axis_count; ++a)
        any_shared = any_shared || placed.axes[a].is_shared;
    for (std::size_t other = 0; any_shared && other < part; ++other) {
        bool same = true;
        for (std::size_t a = 0; a < placed.axis_count; ++a)
            same = same && placed.parts[other].first[a] == placed.parts[part].first[a];
        if (same) return true;
    }
    return false;
}

/// Whether every block is inside its output.
[[nodiscard]] inline bool are_inside(span<const copy_block> blocks,
                                     const output_field& into) noexcept {
    bool inside = true;
    for (const copy_block& block : blocks)
        inside = inside && lies_inside(block.destination_offset, block.destination_extent_bytes(),
                                       into.size_bytes);
    return inside;
}

/// Whether the blocks make every byte of their outputs and no other. A user's term may be wrong: it
/// must neither write elsewhere nor leave bytes unwritten.
[[nodiscard]] inline bool fill(span<const copy_block> blocks, const output_field& into) noexcept {
    std::uint64_t made_bytes = 0, wanted_bytes = 0;
    bool fits = checked_mul(into.count, into.size_bytes, wanted_bytes) && are_inside(blocks, into);
    for (const copy_block& block : blocks)
        fits = fits && checked_add(made_bytes, block.size_bytes(), made_bytes);
    return fits && made_bytes == wanted_bytes;
}

/// Adds the copies of all parts of an output.
///   scope   of the destination
///   fails   splits_block, unnested_groups, shape_mismatch (a term does not fill its tensor),
///           out_of_memory
[[nodiscard]] inline result<void> add_copies(copy_list& list, const inventory& of,
                                             const geometry& shapes, const selection& kept,
                                             const output_field& into,
                                             std::string_view scope) noexcept {
    const std::size_t first_block = list.blocks.size(), first_equal = list.equal_blocks.size();
    for (std::size_t p = 0; p < into.placed.part_count; ++p) {
        vector<copy_block>& blocks =
            lies_on_another(into.placed, p) ? list.equal_blocks : list.blocks;
        auto done = copy_part(of, shapes, kept, into, p, blocks);
        if (done) continue;
        if (done.error().tensor.empty()) done.error().tensor = any_name(scope, into);
        return done;
    }
    if (fill(list.blocks.view().subspan(first_block), into) &&
        are_inside(list.equal_blocks.view().subspan(first_equal), into))
        return {};
    return refuse(errc::shape_mismatch, any_name(scope, into),
                  "a term of the layout does not fill its tensor");
}

// ---------------------------------------------------------------------------------------- order

[[nodiscard]] inline bool same_loops(const copy_block& a, const copy_block& b) noexcept {
    bool same = a.loop_count == b.loop_count;
    for (std::uint32_t i = 0; same && i < a.loop_count; ++i) same = a.loops[i] == b.loops[i];
    return same;
}

/// Merges loops into the run if their steps are contiguous on both sides: (n) : (run) = a run of n
/// * run bytes.
inline void close_gaps(copy_block& block) noexcept {
    for (; block.loop_count > 0; block.loops[--block.loop_count] = {}) {
        const copy_loop& inner = block.loops[block.loop_count - 1];
        if (inner.source_stride != block.run_bytes || inner.destination_stride != block.run_bytes)
            return;
        block.run_bytes *= inner.extent;
    }
}

/// Whether the runs of `next` continue those of `last` on both sides.
[[nodiscard]] inline bool continues(const copy_block& last, const copy_block& next) noexcept {
    return last.output == next.output && last.source == next.source &&
           last.source_offset + last.run_bytes == next.source_offset &&
           last.destination_offset + last.run_bytes == next.destination_offset &&
           same_loops(last, next);
}

/// Orders blocks by their sources.
///   fails   out_of_memory
[[nodiscard]] inline result<void> sort_blocks(vector<copy_block>& blocks) noexcept {
    // sort small records: blocks are ten times as large
    struct place {
        std::uint32_t source;
        std::uint32_t block;
        std::uint64_t source_offset;
    };
    const auto before = [](const place& a, const place& b) noexcept {
        return a.source != b.source ? a.source < b.source : a.source_offset < b.source_offset;
    };
    vector<place> places;
    vector<copy_block> sorted;
    if (!places.reserve(blocks.size()) || !sorted.reserve(blocks.size())) return no_memory();
    for (const copy_block& each : blocks) {
        const auto number = static_cast<std::uint32_t>(places.size());
        if (!places.push({each.source, number, each.source_offset})) return no_memory();
    }
    if (!detail::sort(places.view(), before)) return no_memory();
    for (const place& each : places)
        if (!sorted.push(blocks[each.block])) return no_memory();
    blocks = std::move(sorted);
    return {};
}

/// Joins sorted blocks that continue one another.
///   @post   the same bytes are copied to the same places
inline void join_blocks(vector<copy_block>& blocks) noexcept {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        const copy_block& next = blocks[i];
        if (kept > 0 && continues(blocks[kept - 1], next)) {
            blocks[kept - 1].run_bytes += next.run_bytes;
            close_gaps(blocks[kept - 1]);
        } else {
            blocks[kept++] = next;
        }
    }
    static_cast<void>(blocks.resize_unset(kept));
}

/// Orders the copies by source and offset, and joins neighbours.
///   fails   out_of_memory
[[nodiscard]] inline result<void> order_copies(copy_list& list) noexcept {
    for (vector<copy_block>* const blocks : {&list.blocks, &list.equal_blocks}) {
        if (auto sorted = sort_blocks(*blocks); !sorted) return sorted;
        join_blocks(*blocks);
    }
    return {};
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
