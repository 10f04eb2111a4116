// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the layout algebra. A layout maps every element of every part of every expert to its
// place in stored tensors.
//
//     using gate = part<"gate", "I", "H">;                    // a matrix of each expert: I x H
//     using fused = layout<parameter_suffixes,
//         tensor<"gate_up_proj", stack<concat<0, gate, up>>>, // [E, 2I, H]: gate's rows, then up's
//         tensor<"down_proj", stack<down>>>;                  // [E, H, I]
//
// Terms are types. The value of a term is a `mapping`, computed by constexpr functions. So a wrong
// layout does not compile, and a plan works on plain data. Nothing here depends on files.
#ifndef SAFEFUSE_LAYOUT_LAYOUT_HPP
#define SAFEFUSE_LAYOUT_LAYOUT_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/detail/term_checks.hpp>
#include <safefuse/layout/fields.hpp>
#include <safefuse/layout/mapping.hpp>
#include <safefuse/layout/mapping_algebra.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A term over parts. A term of your own is a type with these members:
///   axis_count   how many axes its value has
///   is_stacked   whether the expert's number is one of them
///   parts        a part_list
///   place(x)     the mapping for given extents, constexpr; compose map_concat and others, or fill
///                one in
/// Terms check this concept in their bodies, so naming a layout costs no compile time; only using
/// it does.
template <class Term>
concept layout_term = requires(const layout_args& x) {
    static_cast<std::size_t>(Term::axis_count);
    static_cast<bool>(Term::is_stacked);
    typename Term::parts;
    { Term::place(x) } noexcept -> std::same_as<mapping>;
};

/// A group of experts, counted by extent `Count`. With `Behind`, their numbers continue after the
/// experts that extent `Behind` counts; otherwise they begin at 0. If several such groups share the
/// {i} of one tensor name, they split its N numbers in order: each of the G groups gets
/// ceil(N / G), and the last ones get the rest.
template <fixed_text Count, fixed_text Behind = "">
struct expert_range {
    /// The group as data.
    static constexpr expert_group group{Count.view(), Behind.view()};
};
/// For matrices that belong to no expert.
using of_no_expert = expert_range<"">;

/// One matrix of each expert of a group: its name and the names of its extents, outermost first.
template <class Experts, fixed_text Name, fixed_text... Extent>
struct part_of {
    static_assert(
        sizeof...(Extent) >= 1 && sizeof...(Extent) <= max_part_axes,
        "safefuse: a part names its extents, between one and three: part<\"gate\", \"I\", \"H\">");
    static_assert(((Extent.view() != "E" && Extent.view() != Experts::group.count) && ...),
                  "safefuse: E is the number of experts; give the extents of a part other names");
    /// The name. Layouts identify a part by it.
    static constexpr std::string_view name = Name.view();
    /// The experts that have the part.
    static constexpr expert_group group = Experts::group;
    static constexpr std::size_t axis_count = sizeof...(Extent);  ///< required by layout_term
    static constexpr bool is_stacked = false;                     ///< required by layout_term
    /// Required by layout_term. Two parts are the same if their lists are the same type.
    using parts = part_list<part_of>;
    /// Names of the extents, outermost first.
    static constexpr std::string_view extents[sizeof...(Extent)] = {Extent.view()...};
    /// The part's own axes in order.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        return map_part(name, group, extents, x);
    }
};

/// One matrix of each expert: its name and the names of its extents, outermost first. An extent
/// named ONE is 1. (Not an alias: nvcc 13 loses text arguments that an alias template passes on.)
template <fixed_text Name, fixed_text... Extent>
struct part : part_of<expert_range<"E">, Name, Extent...> {};

/// A matrix that belongs to no expert, for other modules that a model stores differently from the
/// hub.
template <fixed_text Name, fixed_text... Extent>
struct matrix : part_of<of_no_expert, Name, Extent...> {};

/// A new leading axis over all experts.
template <class Term>
struct stack {
    static_assert(layout_term<Term>, "safefuse: stack is of a layout_term");
    static_assert(!Term::is_stacked, "safefuse: stack of a term that is stacked already");
    static_assert(detail::of_one_group(typename Term::parts{}) &&
                      detail::has_experts(typename Term::parts{}),
                  "safefuse: a stack is over the experts of one group");
    /// @{
    /// Members required by layout_term.
    static constexpr std::size_t axis_count = Term::axis_count + 1;
    static constexpr bool is_stacked = true;
    using parts = typename Term::parts;
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        return map_stack(Term::place(x), x);
    }
    /// @}
};

/// Terms one after the other along an axis, in the order given. concat<0, gate, up> is gate's rows,
/// then up's.
template <std::size_t Axis, class... Term>
struct concat : detail::operands<Axis, Term...> {
    /// Required by layout_term.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        const mapping each[] = {Term::place(x)...};
        return map_concat(Axis, each);
    }
};

/// Terms in turn along an axis, `Group` entries of each at a time: interleave<0, 1, gate, up> is
/// rows g0, u0, g1, u1, ...
template <std::size_t Axis, std::uint64_t Group, class... Term>
struct interleave : detail::operands<Axis, Term...> {
    static_assert(Group > 0, "safefuse: an interleave group has at least one entry");
    /// Required by layout_term.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        const mapping each[] = {Term::place(x)...};
        return map_interleave(Axis, Group, each);
    }
};

/// Two axes of a term exchanged.
template <std::size_t A, std::size_t B, class Term>
struct transpose {
    static_assert(layout_term<Term>, "safefuse: transpose is of a layout_term");
    static_assert(A < Term::axis_count && B < Term::axis_count,
                  "safefuse: transpose names an axis that its operand does not have");
    /// @{
    /// Members required by layout_term.
    static constexpr std::size_t axis_count = Term::axis_count;
    static constexpr bool is_stacked = Term::is_stacked;
    using parts = typename Term::parts;
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        return map_transpose(A, B, Term::place(x));
    }
    /// @}
};

/// Joins an axis of a term with the next one: flatten<0, stack<gate>> is [E * I, H].
template <std::size_t Axis, class Term>
struct flatten {
    static_assert(layout_term<Term>, "safefuse: flatten is of a layout_term");
    static_assert(Axis + 1 < Term::axis_count, "safefuse: flatten names the last axis");
    /// @{
    /// Members required by layout_term.
    static constexpr std::size_t axis_count = Term::axis_count - 1;
    static constexpr bool is_stacked = Term::is_stacked;
    using parts = typename Term::parts;
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        return map_flatten(Axis, Term::place(x));
    }
    /// @}
};

// Layouts

/// A stored tensor of a layout, as data.
struct tensor_description {
    std::string_view name;                          ///< without the field's suffix; may contain {i}
    mapping (*place)(const layout_args&) noexcept;  ///< the term's place

    /// Whether there is one such tensor per expert.
    [[nodiscard]] constexpr bool per_expert() const noexcept {
        return detail::find_hole(name) != std::string_view::npos;
    }
};

/// A layout as data. Plans are made from it.
struct layout_description {
    span<const tensor_description> tensors;  ///< in the order of the layout
    span<const field_suffix> fields;         ///< the fields that tensors of the layout may have
};

/// A stored tensor: its name under the scope, and the term that it contains. If there is one tensor
/// per expert, the name contains {i}. A tensor of no expert has neither {i} nor a stack.
template <fixed_text Name, class Term>
struct tensor {
    static_assert(layout_term<Term>, "safefuse: a tensor holds a layout_term");
    /// The term that the tensor contains.
    using term = Term;
    /// Where the parts are in the stored tensor of a field.
    [[nodiscard]] static constexpr mapping place(const layout_args& x) noexcept {
        return map_field(Term::place(x), x);
    }
    /// The tensor as data.
    static constexpr tensor_description description{Name.view(), &place};
    static_assert(detail::holes_in(Name.view()) <= 1,
                  "safefuse: {i} occurs more than once in a tensor's name");
    static_assert(detail::of_one_group(typename Term::parts{}),
                  "safefuse: a tensor contains parts of different experts");
    static_assert((description.per_expert() != Term::is_stacked) ==
                          detail::has_experts(typename Term::parts{}) &&
                      !(description.per_expert() && Term::is_stacked),
                  "safefuse: a tensor has either {i} in its name or a stack in its term, and "
                  "neither without experts");
};

/// All tensors that store the parts of the experts of one scope, and the suffixes of their fields.
template <class Suffixes, class... Tensor>
struct layout {
    static_assert(
        requires { Suffixes::fields; },
        "safefuse: a layout begins with the suffixes of fields: "
        "layout<module_suffixes, tensor<...>, ...>");
    static_assert(
        (requires { typename Tensor::term; } && ...),
        "safefuse: a layout is made of tensors: layout<module_suffixes, tensor<...>, ...>");
    /// A part_list of all parts, in the order of the tensors.
    using parts = typename detail::joined_parts<typename Tensor::term::parts...>::type;
    static_assert(detail::mentions_each_once(parts{}), "safefuse: a layout places a part twice");
    /// The tensors as data.
    static constexpr tensor_description tensors[] = {Tensor::description...};
    /// The layout as data.
    static constexpr layout_description description{tensors, Suffixes::fields};

    static_assert(detail::tensors_differ<Tensor...>(),
                  "safefuse: two tensors of a layout have the same name");
    static_assert(detail::spelled_apart<Tensor...>(Suffixes::fields),
                  "safefuse: a tensor's name is another tensor's name with the suffix of a field");
};

/// A type that describes a layout.
template <class Layout>
concept layout_type = requires {
    static_cast<const layout_description&>(Layout::description);
    typename Layout::parts;
};

/// Whether `from` has every part of `to` with the same extents. For layouts as data.
[[nodiscard]] constexpr bool can_become_layout(const layout_description& from,
                                               const layout_description& to) noexcept {
    for (const tensor_description& tensor : to.tensors) {
        const mapping wanted = tensor.place({});
        for (std::size_t w = 0; w < wanted.part_count; ++w) {
            bool found = false;
            for (const tensor_description& other : from.tensors) {
                const mapping given = other.place({});
                for (std::size_t g = 0; g < given.part_count; ++g)
                    found = found || detail::is_same_part(wanted.parts[w], given.parts[g]);
            }
            if (!found) return false;
        }
    }
    return true;
}

/// Whether `From` has every part of `To` with the same extents. plan<From, To> requires this in
/// both directions.
template <layout_type From, layout_type To>
inline constexpr bool can_become = detail::all_among(typename To::parts{}, typename From::parts{});

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
