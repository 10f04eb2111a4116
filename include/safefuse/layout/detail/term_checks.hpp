// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: conditions of the static_asserts in layout.hpp: lists of parts, {i} in names, equal
// names.
#ifndef SAFEFUSE_LAYOUT_DETAIL_TERM_CHECKS_HPP
#define SAFEFUSE_LAYOUT_DETAIL_TERM_CHECKS_HPP

#include <concepts>
#include <cstddef>
#include <string_view>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/fields.hpp>
#include <safefuse/layout/mapping.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

template <class... List>
struct joined_parts;
template <class... Part>
struct joined_parts<part_list<Part...>> {
    using type = part_list<Part...>;
};
template <class... A, class... B, class... Rest>
struct joined_parts<part_list<A...>, part_list<B...>, Rest...>
    : joined_parts<part_list<A..., B...>, Rest...> {};

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
/// Whether all parts belong to the same experts.
template <class First, class... Part>
constexpr bool of_one_group(part_list<First, Part...>) noexcept {
    return ((First::group.count == Part::group.count && First::group.after == Part::group.after) &&
            ...);
}
template <class First, class... Part>
constexpr bool has_experts(part_list<First, Part...>) noexcept {
    return !First::group.count.empty();
}

/// Common members of the terms with several operands.
template <std::size_t Axis, class First, class... Rest>
struct operands {
    static_assert(
        requires { typename First::parts; } && (requires { typename Rest::parts; } && ...),
        "safefuse: an operand of a term is no layout_term");
    static_assert(((First::axis_count == Rest::axis_count) && ...),
                  "safefuse: the operands of a term have different numbers of axes");
    static_assert(((First::is_stacked == Rest::is_stacked) && ...),
                  "safefuse: some operands of a term are stacked and some are not");
    static_assert(Axis < First::axis_count,
                  "safefuse: a term names an axis that its operands do not have");
    static constexpr std::size_t axis_count = First::axis_count;
    static constexpr bool is_stacked = First::is_stacked;
    using parts = typename joined_parts<typename First::parts, typename Rest::parts...>::type;
};

/// Position of {i} in a name, or npos. (string_view::find is not constexpr under GCC's sanitizer.)
SAFEFUSE_NOINLINE constexpr std::size_t find_hole(std::string_view name) noexcept {
    for (std::size_t i = 0; i + expert_hole.size() <= name.size(); ++i) {
        if (name[i] != expert_hole[0]) continue;
        if (__builtin_memcmp(name.data() + i, expert_hole.data(), expert_hole.size()) == 0)
            return i;
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

/// Whether two layouts place the same part: name, experts and extents are equal.
constexpr bool is_same_part(const part_mapping& a, const part_mapping& b) noexcept {
    bool equal = a.part == b.part && a.experts == b.experts && a.after == b.after &&
                 a.part_axes == b.part_axes;
    for (std::size_t i = 0; equal && i < a.part_axes; ++i) equal = a.extents[i] == b.extents[i];
    return equal;
}

/// Whether no tensor with a field's suffix has the name of another tensor with a field's suffix:
/// "x" + "_bias" and "x_bias".
template <class... Tensor>
constexpr bool spelled_apart(span<const field_suffix> fields) noexcept {
    const std::string_view names[] = {Tensor::description.name...};
    for (const std::string_view& longer : names)
        for (const std::string_view& name : names) {
            if (longer == name || !longer.starts_with(name)) continue;
            const std::string_view rest = longer.substr(name.size());
            for (const field_suffix& one : fields)
                for (const field_suffix& other : fields)
                    if (one.suffix.size() == rest.size() + other.suffix.size() &&
                        one.suffix.starts_with(rest) && one.suffix.ends_with(other.suffix))
                        return false;
        }
    return true;
}

/// Whether no two tensors have the same name and the same experts.
template <class... Tensor>
constexpr bool tensors_differ() noexcept {
    const std::string_view names[] = {Tensor::description.name...};
    const expert_group groups[] = {group_of(typename Tensor::term::parts{})...};
    for (std::size_t a = 0; a < sizeof...(Tensor); ++a)
        for (std::size_t b = a + 1; b < sizeof...(Tensor); ++b)
            if (names[a] == names[b] && groups[a].count == groups[b].count) return false;
    return true;
}

// Parts are compared by their part_of, since `part` and `matrix` derive from it.
template <class Part, class... Other>
constexpr bool among(part_list<Other...>) noexcept {
    return (std::same_as<typename Part::parts, typename Other::parts> || ...);
}
template <class... Part, class Others>
constexpr bool all_among(part_list<Part...>, Others others) noexcept {
    return (among<Part>(others) && ...);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
