// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the layout algebra. A layout says where every element of every part of every expert lies in stored tensors.
//
//   using gate = part<"gate", "I", "H">;                      a matrix of one expert, its extents named
//   using fused = layout<parameter_suffixes,
//       tensor<"gate_up_proj", stack<concat<0, gate, up>>>,   [E, 2I, H]: gate's rows, then up's, for each expert
//       tensor<"down_proj", stack<down>>>;                    [E, H, I]
//
// Terms are types; what they mean is a `mapping`, computed by constexpr functions, so a wrong layout does not compile and
// a plan works on plain data. Nothing here knows of files.
#ifndef SAFEFUSE_LAYOUT_LAYOUT_HPP
#define SAFEFUSE_LAYOUT_LAYOUT_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/fields.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

// ------------------------------------------------------------------------------------------------------------- mappings

inline constexpr std::size_t max_stored_axes = 6;   ///< axes of a stored tensor while terms are applied
inline constexpr std::size_t max_mapped_parts = 8;  ///< parts in one stored tensor
inline constexpr std::size_t max_modes = 8;        ///< modes of the index of one part
inline constexpr std::size_t max_dims = 8;       ///< named extents of a layout, the number of experts among them

/// Why a mapping cannot be.
enum class mapping_error : std::uint8_t { none, splits_block, unequal_extents, uneven_groups, too_complex, overflow };

/// The axis of a field's own, as an axis of the part.
inline constexpr std::uint8_t trailing_axis = max_part_axes + 1;

/// A digit of a part's index and where it goes. Digit = index / weight % extent; entry of `axis` += digit * stride.
struct mode {
    std::uint8_t part_axis = 0;  ///< 0: the expert's number; a + 1: axis a of the part; trailing_axis: the field's own
    std::uint8_t axis = 0;       ///< of the stored tensor
    std::uint64_t weight = 1;    ///< what one of the digit stands for in the index
    std::uint64_t extent = 1;    ///< how many values the digit has
    std::uint64_t stride = 1;    ///< entries of the stored axis from one value to the next
};

/// Where one part lies in a stored tensor.
struct part_mapping {
    std::string_view part;     ///< its name
    std::string_view experts;  ///< the extent that counts the experts that have the part; empty: it is no expert's
    std::string_view after;   ///< the extent that counts the experts before these; empty: these come first
    std::string_view extents[max_part_axes]{};  ///< names of the part's extents
    std::uint8_t part_axes = 0;                 ///< how many axes it has
    std::uint8_t mode_count = 0;               ///< how many of `modes` there are
    mode modes[max_modes]{};           ///< the digits of all its indices
    std::uint64_t first[max_stored_axes]{};     ///< entry of each axis where the part begins
};

/// One axis of a stored tensor.
struct stored_axis {
    std::uint64_t extent = 1;       ///< entries along it
    bool present = true;            ///< an absent axis has extent 1 and does not show in the shape
    bool whole = true;              ///< its extent holds no incomplete block_size
    bool is_shared = false;         ///< parts that are put together along it must be equal and are stored once
    std::uint64_t block_size = 1;      ///< elements that one entry stands for
    std::uint64_t coefficient = 1;  ///< extent * block_size = coefficient * product of the dims, rounded up; 0: not of that form
    std::uint8_t dims = 0;       ///< set of dims, one bit each
};

/// What a term over parts means: the axes of a stored tensor, and where in it each part lies.
struct mapping {
    mapping_error error = mapping_error::none;  ///< not none: the rest means nothing
    std::uint8_t axis_count = 0;                    ///< how many of `axes` there are
    std::uint8_t part_count = 0;                    ///< how many of `parts` there are
    stored_axis axes[max_stored_axes]{};            ///< outermost first
    part_mapping parts[max_mapped_parts]{};       ///< in the order in which the term mentions them
};

/// The extents a layout is evaluated for, and the form of the field that it is evaluated for. E, the number of experts, is dim
/// 0; the others are named by the parts.
struct layout_args {
    std::uint8_t dim_count = 1;                               ///< how many extents have names
    std::string_view names[max_dims]{"E"};                    ///< by dim
    std::uint64_t values[max_dims]{};                         ///< by dim
    const field_form* field = weight::description.forms.data();  ///< never null

    /// The number of a dim, which is added where it is not known; max_dims when there are too many.
    SAFEFUSE_NOINLINE constexpr std::size_t dim(std::string_view name) noexcept {
        for (std::size_t i = 0; i < dim_count; ++i)
            if (names[i] == name) return i;
        if (dim_count == max_dims) return max_dims;
        names[dim_count] = name;
        return dim_count++;
    }
    /// What an extent of that name is; 0 where there is none.
    [[nodiscard]] constexpr std::uint64_t value(std::string_view name) const noexcept {
        for (std::size_t i = 0; i < dim_count; ++i)
            if (names[i] == name) return values[i];
        return 0;
    }
};

/// Which experts have a part: the names of the extents that count them and those before them.
struct expert_group {
    std::string_view count;   ///< of the experts that have the part; empty: it is no expert's
    std::string_view after;  ///< of the experts that are numbered before them; empty: none are
};

/// A part on its own: its axes in order. An entry of axis a stands for granule_a elements.
///   @post  entry_a(i) = i_a / granule_a
[[nodiscard]] constexpr mapping map_part(std::string_view part, expert_group group, span<const std::string_view> extents,
                                             const layout_args& x) noexcept {
    mapping out;
    out.axis_count = static_cast<std::uint8_t>(extents.size());
    out.part_count = 1;
    part_mapping& placed = out.parts[0];
    placed.part = part;
    placed.experts = group.count;
    placed.after = group.after;
    placed.part_axes = out.axis_count;
    for (std::uint8_t a = 0; a < extents.size(); ++a) {
        placed.extents[a] = extents[a];
        stored_axis& axis = out.axes[a];
        const std::uint64_t block_size = x.field->block_size[a];
        if (block_size == 0) {
            axis.present = false;
            axis.is_shared = x.field->is_shared;
            continue;
        }
        if (block_size == whole_axis) {
            axis.block_size = whole_axis;
            axis.coefficient = 0;
            placed.modes[placed.mode_count++] = {static_cast<std::uint8_t>(a + 1), a, 1, 1, 1};
            continue;
        }
        layout_args known = x;
        const std::size_t dim = known.dim(extents[a]);
        if (dim == max_dims) {
            out.error = mapping_error::too_complex;
            return out;
        }
        const std::uint64_t elements = known.values[dim];
        axis.whole = elements % block_size == 0;
        if (!axis.whole && x.field->role == field_role::value) out.error = mapping_error::splits_block;
        axis.extent = elements / block_size + (axis.whole ? 0 : 1);
        axis.block_size = block_size;
        axis.dims = static_cast<std::uint8_t>(1u << dim);
        placed.modes[placed.mode_count++] = {static_cast<std::uint8_t>(a + 1), a, 1, axis.extent, 1};
    }
    return out;
}

/// A new leading axis, the expert's number.
///   @post  entry(e, i) = (e, entry(i))
[[nodiscard]] constexpr mapping map_stack(mapping of, const layout_args& x) noexcept {
    layout_args known = x;
    const std::size_t dim = known.dim(of.parts[0].experts);
    if (of.axis_count == max_stored_axes || dim == max_dims) {
        of.error = mapping_error::too_complex;
        return of;
    }
    const std::uint64_t count = known.values[dim];
    for (std::size_t a = of.axis_count++; a > 0; --a) of.axes[a] = of.axes[a - 1];
    of.axes[0] = {.extent = count, .dims = static_cast<std::uint8_t>(1u << dim)};
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        for (std::size_t a = of.axis_count; a-- > 1;) part.first[a] = part.first[a - 1];
        part.first[0] = 0;
        for (std::size_t i = 0; i < part.mode_count; ++i) ++part.modes[i].axis;
        if (part.mode_count == max_modes) {
            of.error = mapping_error::too_complex;
            return of;
        }
        part.modes[part.mode_count++] = {0, 0, 1, count, 1};
    }
    return of;
}

namespace detail {

/// Puts the parts of `next` behind those of `of` and checks that all axes but `axis` agree.
constexpr void join(mapping& of, const mapping& next, std::size_t axis) noexcept {
    if (of.error == mapping_error::none) of.error = next.error;
    if (of.axis_count != next.axis_count) of.error = mapping_error::unequal_extents;
    for (std::size_t a = 0; a < of.axis_count; ++a)
        if (a != axis && (of.axes[a].extent != next.axes[a].extent || of.axes[a].block_size != next.axes[a].block_size))
            of.error = mapping_error::unequal_extents;
    for (std::size_t p = 0; p < next.part_count; ++p) {
        if (of.part_count == max_mapped_parts) {
            of.error = mapping_error::too_complex;
            return;
        }
        of.parts[of.part_count++] = next.parts[p];
    }
}

/// Whether a block_size would end inside one operand and begin in the next.
constexpr void require_whole(mapping& of, const stored_axis& axis) noexcept {
    if (!axis.whole) of.error = mapping_error::splits_block;
}

}  // namespace detail

/// Operands one after the other along an axis. Along an axis that the field lacks, they become the
/// entries of a new one, so a scalar per part becomes a pair per expert; where the field is shared,
/// they are one and the same.
///   @post  entry_axis(operand k, i) = entry_axis(i) + sum of the extents of the operands before k
[[nodiscard]] constexpr mapping map_concat(std::size_t axis, span<const mapping> operands) noexcept {
    mapping out = operands[0];
    if (axis >= out.axis_count) {
        out.error = mapping_error::unequal_extents;
        return out;
    }
    stored_axis& joined = out.axes[axis];
    if (joined.is_shared) {
        for (const mapping& next : operands.subspan(1)) detail::join(out, next, axis);
        return out;
    }
    if (operands.size() > 1) {
        detail::require_whole(out, joined);
        joined.present = true;
    }
    for (const mapping& next : operands.subspan(1)) {
        const std::size_t first_part = out.part_count;
        detail::join(out, next, axis);  // after an error, too: plans ask for names where extents are not known
        if (out.error == mapping_error::too_complex) return out;
        const stored_axis& added = next.axes[axis];
        detail::require_whole(out, added);
        for (std::size_t p = first_part; p < out.part_count; ++p) {
            if (!detail::checked_add(out.parts[p].first[axis], joined.extent, out.parts[p].first[axis]))
                out.error = mapping_error::overflow;
        }
        if (!detail::checked_add(joined.extent, added.extent, joined.extent)) out.error = mapping_error::overflow;
        joined.coefficient = joined.dims == added.dims && joined.coefficient != 0 && added.coefficient != 0
                                 ? joined.coefficient + added.coefficient
                                 : 0;
    }
    return out;
}

namespace detail {

/// How many stored entries a group of `group` elements is.
///   fails   splits_block (it ends inside an entry), uneven_groups (the axis ends inside a group)
constexpr mapping_error entries_of_group(const stored_axis& axis, std::uint64_t& group) noexcept {
    if (axis.block_size == whole_axis || !axis.present) {
        group = 1;
        return mapping_error::none;
    }
    if (group % axis.block_size != 0) return mapping_error::splits_block;
    group /= axis.block_size;
    return axis.extent % group == 0 ? mapping_error::none : mapping_error::uneven_groups;
}

/// Splits the digits of a part along an axis at the edges of groups. False if they cannot be split
/// so, or there is no room for them.
///   @post  a digit's stride is a multiple of `group`, or the digit stays inside one group
constexpr bool split_at_groups(part_mapping& part, std::size_t axis,
                               std::uint64_t group) noexcept {
    const std::uint64_t low = part.first[axis] % group;
    std::uint64_t reach = low;  // the greatest entry of a group that the digits inside it reach
    const std::size_t before = part.mode_count;
    for (std::size_t i = 0; i < before; ++i) {
        mode& piece = part.modes[i];
        if (piece.axis != axis || piece.extent <= 1 || piece.stride % group == 0) continue;
        if (low + (piece.extent - 1) * piece.stride >= group) {
            const std::uint64_t within = group / piece.stride;
            if (group % piece.stride != 0 || low != 0 || piece.extent % within != 0 ||
                part.mode_count == max_modes)
                return false;
            part.modes[part.mode_count++] = {piece.part_axis, piece.axis, piece.weight * within,
                                               piece.extent / within, group};
            piece.extent = within;
        }
        reach += (piece.extent - 1) * piece.stride;
    }
    return reach < group;
}

/// Moves a part, split at groups, to its turn in rounds of `round` entries.
///   @post  entry x becomes x / group * round + turn * group + x % group
constexpr void take_turn(part_mapping& part, std::size_t axis, std::uint64_t group,
                         std::uint64_t round, std::uint64_t turn) noexcept {
    std::uint64_t& first = part.first[axis];
    first = first / group * round + turn * group + first % group;
    for (std::size_t i = 0; i < part.mode_count; ++i) {
        mode& piece = part.modes[i];
        if (piece.axis == axis && piece.stride % group == 0)
            piece.stride = piece.stride / group * round;
    }
}

/// The operands of an interleave as one mapping, without turns: their parts, and the axes that
/// they must agree on.
constexpr mapping join_equal(span<const mapping> operands, std::size_t axis) noexcept {
    mapping out = operands[0];
    for (const mapping& next : operands.subspan(1)) {
        if (next.axes[axis].extent != out.axes[axis].extent)
            out.error = mapping_error::unequal_extents;
        join(out, next, axis);
        require_whole(out, next.axes[axis]);
    }
    require_whole(out, out.axes[axis]);
    return out;
}

}  // namespace detail

/// Operands in turn along an axis, `group` elements of each at a time. Along an axis that the field
/// lacks, each operand has one entry; where the field is shared, they are one and the same.
///   @post  entry_axis(operand k, i) = x / group * (group * n) + k * group + x % group
///          with x = entry_axis(i) in operand k, n operands, and group in stored entries
[[nodiscard]] constexpr mapping map_interleave(std::size_t axis, std::uint64_t group,
                                                   span<const mapping> operands) noexcept {
    mapping out = operands[0];
    if (axis >= out.axis_count || group == 0) {
        out.error = mapping_error::unequal_extents;
        return out;
    }
    out = detail::join_equal(operands, axis);
    stored_axis& turned = out.axes[axis];
    const bool is_shared = turned.is_shared;
    const auto grouped = detail::entries_of_group(turned, group);
    if (grouped == mapping_error::splits_block) out.error = grouped;
    if (is_shared || out.error != mapping_error::none) return out;
    out.error = grouped;
    const std::uint64_t turns = operands.size();
    std::uint64_t round = 0;
    if (out.error == mapping_error::none &&
        (!detail::checked_mul(group, turns, round) ||
         !detail::checked_mul(turned.extent, turns, turned.extent)))
        out.error = mapping_error::overflow;
    if (out.error != mapping_error::none) return out;
    turned.coefficient *= turns;
    turned.present = true;
    std::size_t p = 0;
    for (std::size_t turn = 0; turn < turns; ++turn)
        for (const std::size_t end = p + operands[turn].part_count; p < end; ++p) {
            if (!detail::split_at_groups(out.parts[p], axis, group)) {
                out.error = mapping_error::too_complex;
                return out;
            }
            detail::take_turn(out.parts[p], axis, group, round, turn);
        }
    return out;
}

/// Two axes exchanged.
///   @post  entry_a(i) = entry_b(i) of the operand, and entry_b(i) = entry_a(i) of it
[[nodiscard]] constexpr mapping map_transpose(std::size_t a, std::size_t b, mapping of) noexcept {
    if (a >= of.axis_count || b >= of.axis_count) {
        of.error = mapping_error::unequal_extents;
        return of;
    }
    detail::swap(of.axes[a], of.axes[b]);
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        detail::swap(part.first[a], part.first[b]);
        for (std::size_t i = 0; i < part.mode_count; ++i) {
            std::uint8_t& axis = part.modes[i].axis;
            if (axis == a)
                axis = static_cast<std::uint8_t>(b);
            else if (axis == b)
                axis = static_cast<std::uint8_t>(a);
        }
    }
    return of;
}

/// An axis and the one behind it as one: [E, I, H] becomes [E * I, H].
///   @post  entry_axis(i) = entry_axis(i) * extent_(axis + 1) + entry_(axis + 1)(i) of the operand
[[nodiscard]] constexpr mapping map_flatten(std::size_t axis, mapping of) noexcept {
    if (axis + 1 >= of.axis_count) {
        of.error = mapping_error::unequal_extents;
        return of;
    }
    stored_axis& outer = of.axes[axis];
    const stored_axis inner = of.axes[axis + 1];
    detail::require_whole(of, inner);
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        part.first[axis] = part.first[axis] * inner.extent + part.first[axis + 1];
        for (std::size_t a = axis + 1; a + 1 < of.axis_count; ++a) part.first[a] = part.first[a + 1];
        part.first[of.axis_count - 1] = 0;
        for (std::size_t i = 0; i < part.mode_count; ++i) {
            mode& piece = part.modes[i];
            if (piece.axis == axis)
                piece.stride *= inner.extent;
            else if (piece.axis > axis)
                --piece.axis;
        }
    }
    if (!detail::checked_mul(outer.extent, inner.extent, outer.extent)) of.error = mapping_error::overflow;
    outer.present = outer.present || inner.present;
    outer.coefficient = (outer.dims & inner.dims) == 0 ? outer.coefficient * inner.coefficient : 0;
    outer.dims = static_cast<std::uint8_t>(outer.dims | inner.dims);
    outer.block_size *= inner.block_size;
    for (std::size_t a = axis + 1; a + 1 < of.axis_count; ++a) of.axes[a] = of.axes[a + 1];
    of.axes[--of.axis_count] = {};
    return of;
}

/// What the form of a field adds to a whole term: the exchange of a matrix's axes, and the field's
/// own axis.
///   @post  entry(i, k) = (entry(i), k) for k < entries of the form; the last two axes exchanged
[[nodiscard]] constexpr mapping map_field(mapping of, const layout_args& x) noexcept {
    if (x.field->is_transposed && of.axis_count >= 2) of = map_transpose(of.axis_count - 2u, of.axis_count - 1u, of);
    if (x.field->entries == 0) return of;
    if (of.axis_count == max_stored_axes) {
        of.error = mapping_error::too_complex;
        return of;
    }
    const std::uint8_t axis = of.axis_count++;
    of.axes[axis] = {.extent = x.field->entries, .coefficient = 0};
    for (std::size_t p = 0; p < of.part_count; ++p) {
        part_mapping& part = of.parts[p];
        if (part.mode_count == max_modes) {
            of.error = mapping_error::too_complex;
            return of;
        }
        part.modes[part.mode_count++] = {trailing_axis, axis, 1, x.field->entries, 1};
    }
    return of;
}

// ------------------------------------------------------------------------------------------------------------------ terms

/// The names of parts, in the order in which a term mentions them.
template <class... Part>
struct part_list {
    static constexpr std::size_t size = sizeof...(Part);  ///< how many parts
};

namespace detail {

template <class... List>
struct joined_parts;
template <class... Part>
struct joined_parts<part_list<Part...>> {
    using type = part_list<Part...>;
};
template <class... A, class... B, class... Rest>
struct joined_parts<part_list<A...>, part_list<B...>, Rest...> : joined_parts<part_list<A..., B...>, Rest...> {};

template <class... Part>
constexpr bool mentions_each_once(part_list<Part...>) noexcept {
    const std::string_view names[] = {Part::name...};
    for (std::size_t a = 0; a < sizeof...(Part); ++a)
        for (std::size_t b = a + 1; b < sizeof...(Part); ++b)
            if (names[a] == names[b]) return false;
    return true;
}

template <class First, class... Part>
constexpr expert_group group_of(part_list<First, Part...>) noexcept {
    return First::group;
}
/// Whether the same experts have all parts.
template <class First, class... Part>
constexpr bool of_one_group(part_list<First, Part...>) noexcept {
    return ((First::group.count == Part::group.count && First::group.after == Part::group.after) && ...);
}
template <class First, class... Part>
constexpr bool has_experts(part_list<First, Part...>) noexcept {
    return !First::group.count.empty();
}

}  // namespace detail

/// A term over parts. A term of your own is a type with these members:
///   axis_count   how many axes its value has
///   is_stacked   whether the expert's number is one of them
///   parts        a part_list
///   place(x)     the mapping for given extents, constexpr; compose map_concat and its like, or fill one in
template <class Term>
concept layout_term = requires(const layout_args& x) {
    static_cast<std::size_t>(Term::axis_count);
    static_cast<bool>(Term::is_stacked);
    typename Term::parts;
    { Term::place(x) } noexcept -> std::same_as<mapping>;
};

/// The experts that have a part: those that `Count` counts, numbered from 0 or, with `Behind`, from where that extent ends. Where a
/// tensor's name holds {i} for several such groups, the numbers are dealt out in equal shares, rounded up, in their order.
template <fixed_text Count, fixed_text Behind = "">
struct expert_range {
    /// The group as data.
    static constexpr expert_group group{Count.view(), Behind.view()};
};
/// For matrices that are no expert's.
using of_no_expert = expert_range<"">;

/// One logical matrix of each expert of a group: its name and the names of its extents, outermost first.
template <class Experts, fixed_text Name, fixed_text... Extent>
struct part_of {
    static_assert(sizeof...(Extent) >= 1 && sizeof...(Extent) <= max_part_axes,
                  "safefuse: a part names its extents, between one and three: part<\"gate\", \"I\", \"H\">");
    static_assert(((Extent.view() != "E" && Extent.view() != Experts::group.count) && ...),
                  "safefuse: E is the number of experts; call the extents of a part otherwise");
    /// The name, by which two layouts know the same part.
    static constexpr std::string_view name = Name.view();
    /// Which experts have it.
    static constexpr expert_group group = Experts::group;
    static constexpr std::size_t axis_count = sizeof...(Extent);  ///< as layout_term asks
    static constexpr bool is_stacked = false;                     ///< as layout_term asks
    using parts = part_list<part_of>;                             ///< as layout_term asks; `part` and its like are known by it
    /// The names of the extents, outermost first.
    static constexpr std::string_view extents[sizeof...(Extent)] = {Extent.view()...};
    /// Its own axes in order.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept { return map_part(name, group, extents, x); }
};

/// One logical matrix of each expert: its name and the names of its extents, outermost first. An extent called ONE is 1.
/// (No alias: nvcc 13 loses the texts that an alias template hands on.)
template <fixed_text Name, fixed_text... Extent>
struct part : part_of<expert_range<"E">, Name, Extent...> {};

/// A matrix that is no expert's, for modules that a model stores otherwise than the hub does.
template <fixed_text Name, fixed_text... Extent>
struct matrix : part_of<of_no_expert, Name, Extent...> {};

/// A new leading axis over all experts.
template <layout_term Term>
struct stack {
    static_assert(!Term::is_stacked, "safefuse: stack of a term that is stacked already");
    static_assert(detail::of_one_group(typename Term::parts{}) && detail::has_experts(typename Term::parts{}),
                  "safefuse: a stack is over the experts of one group");
    /// @{
    /// What layout_term asks for.
    static constexpr std::size_t axis_count = Term::axis_count + 1;
    static constexpr bool is_stacked = true;
    using parts = typename Term::parts;
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept { return map_stack(Term::place(x), x); }
    /// @}
};

namespace detail {

/// What the terms with several operands have in common.
template <std::size_t Axis, class First, class... Rest>
struct operands {
    static_assert(((First::axis_count == Rest::axis_count) && ...),
                  "safefuse: the operands of a term have different numbers of axes");
    static_assert(((First::is_stacked == Rest::is_stacked) && ...),
                  "safefuse: some operands of a term are stacked and some are not");
    static_assert(Axis < First::axis_count, "safefuse: a term names an axis that its operands do not have");
    static constexpr std::size_t axis_count = First::axis_count;
    static constexpr bool is_stacked = First::is_stacked;
    using parts = typename joined_parts<typename First::parts, typename Rest::parts...>::type;
};

}  // namespace detail

/// Terms one after the other along an axis, in the order given: concat<0, gate, up> is gate's rows, then up's.
template <std::size_t Axis, layout_term... Term>
struct concat : detail::operands<Axis, Term...> {
    /// What layout_term asks for.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        const mapping each[] = {Term::place(x)...};
        return map_concat(Axis, each);
    }
};

/// Terms in turn along an axis, `Group` entries of each at a time: interleave<0, 1, gate, up> is rows g0, u0, g1, u1, ...
template <std::size_t Axis, std::uint64_t Group, layout_term... Term>
struct interleave : detail::operands<Axis, Term...> {
    static_assert(Group > 0, "safefuse: an interleave group has at least one entry");
    /// What layout_term asks for.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        const mapping each[] = {Term::place(x)...};
        return map_interleave(Axis, Group, each);
    }
};

/// Two axes of a term exchanged.
template <std::size_t A, std::size_t B, layout_term Term>
struct transpose {
    static_assert(A < Term::axis_count && B < Term::axis_count,
                  "safefuse: transpose names an axis that its operand does not have");
    /// @{
    /// What layout_term asks for.
    static constexpr std::size_t axis_count = Term::axis_count;
    static constexpr bool is_stacked = Term::is_stacked;
    using parts = typename Term::parts;
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        return map_transpose(A, B, Term::place(x));
    }
    /// @}
};

/// An axis of a term and the one behind it made one: flatten<0, stack<gate>> is [E * I, H].
template <std::size_t Axis, layout_term Term>
struct flatten {
    static_assert(Axis + 1 < Term::axis_count, "safefuse: flatten names an axis that has none behind it");
    /// @{
    /// What layout_term asks for.
    static constexpr std::size_t axis_count = Term::axis_count - 1;
    static constexpr bool is_stacked = Term::is_stacked;
    using parts = typename Term::parts;
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept { return map_flatten(Axis, Term::place(x)); }
    /// @}
};

// ---------------------------------------------------------------------------------------------------------------- layouts

/// Where the expert's number stands in the name of a tensor that holds one expert.
inline constexpr std::string_view expert_hole = "{i}";

namespace detail {

/// Where {i} begins in a name; npos where it does not. (string_view::find is no constant expression under GCC's sanitizer.)
SAFEFUSE_NOINLINE constexpr std::size_t find_hole(std::string_view name) noexcept {
    for (std::size_t i = 0; i + expert_hole.size() <= name.size(); ++i) {
        if (name[i] != expert_hole[0]) continue;
        if (__builtin_memcmp(name.data() + i, expert_hole.data(), expert_hole.size()) == 0) return i;
    }
    return std::string_view::npos;
}
constexpr std::size_t holes_in(std::string_view name) noexcept {
    std::size_t count = 0;
    for (std::size_t i = find_hole(name); i != std::string_view::npos; i = find_hole(name)) {
        name.remove_prefix(i + expert_hole.size());
        ++count;
    }
    return count;
}

}  // namespace detail

/// A stored tensor of a layout, as data.
struct tensor_description {
    std::string_view name;                             ///< without the field's suffix; may hold {i}
    mapping (*place)(const layout_args&) noexcept;  ///< the term's

    /// Whether there is one such tensor for each expert.
    [[nodiscard]] constexpr bool per_expert() const noexcept { return detail::find_hole(name) != std::string_view::npos; }
};

/// A layout as data: what plans are made of.
struct layout_description {
    span<const tensor_description> tensors;  ///< in the order of the layout
    span<const field_suffix> fields;        ///< that tensors of the layout may have
};

/// A stored tensor: its name under the scope, and the term that it holds. A tensor for each expert has {i} in its name; one
/// without experts has neither that nor a stack.
template <fixed_text Name, layout_term Term>
struct tensor {
    /// What the tensor holds.
    using term = Term;
    /// Where the parts lie in what is stored of a field.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept { return map_field(Term::place(x), x); }
    /// The tensor as data.
    static constexpr tensor_description description{Name.view(), &place};
    static_assert(detail::holes_in(Name.view()) <= 1, "safefuse: {i} stands more than once in a tensor's name");
    static_assert(detail::of_one_group(typename Term::parts{}), "safefuse: a tensor holds parts of different experts");
    static_assert((description.per_expert() != Term::is_stacked) == detail::has_experts(typename Term::parts{}) &&
                      !(description.per_expert() && Term::is_stacked),
                  "safefuse: the expert's number belongs either into a tensor's name, as {i}, or into its term, as stack");
};

namespace detail {

/// Whether no tensor with the suffix of a field is called like another tensor with that of a field: "x" + "_bias" and "x_bias".
template <class... Tensor>
constexpr bool spelled_apart(span<const field_suffix> fields) noexcept {
    const std::string_view names[] = {Tensor::description.name...};
    for (const std::string_view& longer : names)
        for (const std::string_view& name : names) {
            if (longer == name || !longer.starts_with(name)) continue;
            const std::string_view rest = longer.substr(name.size());
            for (const field_suffix& one : fields)
                for (const field_suffix& other : fields)
                    if (one.suffix.size() == rest.size() + other.suffix.size() && one.suffix.starts_with(rest) &&
                        one.suffix.ends_with(other.suffix))
                        return false;
        }
    return true;
}

/// Whether no two tensors have a name and experts in common.
template <class... Tensor>
constexpr bool tensors_differ() noexcept {
    const std::string_view names[] = {Tensor::description.name...};
    const expert_group groups[] = {group_of(typename Tensor::term::parts{})...};
    for (std::size_t a = 0; a < sizeof...(Tensor); ++a)
        for (std::size_t b = a + 1; b < sizeof...(Tensor); ++b)
            if (names[a] == names[b] && groups[a].count == groups[b].count) return false;
    return true;
}

}  // namespace detail

/// All tensors in which the parts of the experts of one scope are stored, and how their fields are spelled.
template <class Suffixes, class... Tensor>
struct layout {
    static_assert(
        requires { Suffixes::fields; },
        "safefuse: a layout begins with how it spells fields: layout<module_suffixes, tensor<...>, ...>");
    static_assert((requires { typename Tensor::term; } && ...),
                  "safefuse: a layout is made of tensors: layout<module_suffixes, tensor<...>, ...>");
    /// A part_list of all parts, in the order of the tensors.
    using parts = typename detail::joined_parts<typename Tensor::term::parts...>::type;
    static_assert(detail::mentions_each_once(parts{}), "safefuse: a layout places a part twice");
    /// The tensors as data.
    static constexpr tensor_description tensors[] = {Tensor::description...};
    /// The layout as data.
    static constexpr layout_description description{tensors, Suffixes::fields};

    static_assert(detail::tensors_differ<Tensor...>(), "safefuse: two tensors of a layout have the same name");
    static_assert(detail::spelled_apart<Tensor...>(Suffixes::fields),
                  "safefuse: a tensor's name is another tensor's name with the suffix of a field");
};

/// A type that describes a layout.
template <class Layout>
concept layout_type = requires {
    static_cast<const layout_description&>(Layout::description);
    typename Layout::parts;
};

namespace detail {

// `part` and its like are known by the part_of below them.
template <class Part, class... Other>
constexpr bool among(part_list<Other...>) noexcept {
    return (std::same_as<typename Part::parts, typename Other::parts> || ...);
}
template <class... Part, class Others>
constexpr bool all_among(part_list<Part...>, Others others) noexcept {
    return (among<Part>(others) && ...);
}

}  // namespace detail

/// Whether every part that `to` places is also in `from`, with the same extents, for layouts as data.
[[nodiscard]] constexpr bool can_become_layout(const layout_description& from, const layout_description& to) noexcept {
    const auto same = [](const part_mapping& a, const part_mapping& b) noexcept {
        bool equal = a.part == b.part && a.experts == b.experts && a.after == b.after && a.part_axes == b.part_axes;
        for (std::size_t i = 0; equal && i < a.part_axes; ++i) equal = a.extents[i] == b.extents[i];
        return equal;
    };
    for (const tensor_description& tensor : to.tensors) {
        const mapping wanted = tensor.place({});
        for (std::size_t w = 0; w < wanted.part_count; ++w) {
            bool found = false;
            for (const tensor_description& other : from.tensors) {
                const mapping given = other.place({});
                for (std::size_t g = 0; g < given.part_count; ++g) found = found || same(wanted.parts[w], given.parts[g]);
            }
            if (!found) return false;
        }
    }
    return true;
}

/// Whether every part that `To` places is also in `From`, with the same extents: what plan<From, To> asks for.
template <layout_type From, layout_type To>
inline constexpr bool can_become = detail::all_among(typename To::parts{}, typename From::parts{});

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
