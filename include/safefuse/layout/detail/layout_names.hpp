// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: matches names under a scope with a layout: which tensor, which field, which expert.
#ifndef SAFEFUSE_LAYOUT_DETAIL_LAYOUT_NAMES_HPP
#define SAFEFUSE_LAYOUT_DETAIL_LAYOUT_NAMES_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/text.hpp>
#include <safefuse/layout/layout.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// How a name relates to a layout.
enum class name_verdict : std::uint8_t {
    /// Unrelated to the layout.
    other,
    /// A tensor of the layout, in one of its fields.
    tensor,
    /// Begins like a tensor of the layout, but is none: an unknown part or field.
    leftover,
};

struct matched_name {
    name_verdict verdict = name_verdict::other;
    std::uint32_t tensor = 0;
    std::uint32_t field = 0;
    std::uint64_t expert = 0;
};

/// Removes leading decimal digits from `name`. Returns false if there are none. `plain` becomes
/// true if they are a number without leading zeros that fits 64 bits.
constexpr bool take_number(std::string_view& name, std::uint64_t& number, bool& plain) noexcept {
    std::size_t digits = 0;
    number = 0;
    plain = true;
    while (digits < name.size() && name[digits] >= '0' && name[digits] <= '9') {
        const auto digit = static_cast<std::uint64_t>(name[digits++] - '0');
        plain = plain && checked_mul(number, 10, number) && checked_add(number, digit, number);
    }
    plain = plain && !(digits > 1 && name[0] == '0');
    name.remove_prefix(digits);
    return digits != 0;
}

/// Removes the name of a tensor of the layout from `name`, so that the field's suffix remains. With
/// an {i}, `begins` tells whether the name matches up to and including the expert's number.
constexpr bool take_pattern(std::string_view& name, std::string_view pattern, std::uint64_t& expert,
                            bool& begins) noexcept {
    const std::size_t hole = find_hole(pattern);
    if (hole == std::string_view::npos) {
        begins = name.starts_with(pattern) &&
                 (name.size() == pattern.size() || name[pattern.size()] == '.' ||
                  name[pattern.size()] == '_');
        if (!name.starts_with(pattern)) return false;
        name.remove_prefix(pattern.size());
        return true;
    }
    if (!name.starts_with(pattern.substr(0, hole))) return false;
    name.remove_prefix(hole);
    bool plain = false;
    if (!take_number(name, expert, plain)) return false;
    const std::string_view rest = pattern.substr(hole + expert_hole.size());
    begins = name.empty() || name[0] == '.' || rest.empty();
    // "07" and numbers over 64 bits are no expert numbers but look like one: they must not be
    // ignored
    if (!plain || !name.starts_with(rest)) return false;
    name.remove_prefix(rest.size());
    return true;
}

/// Matches a name, without the scope and its dot, with a layout.
SAFEFUSE_NOINLINE constexpr matched_name match(const layout_description& layout,
                                               std::string_view local) noexcept {
    matched_name out;
    for (std::size_t t = 0; t < layout.tensors.size(); ++t) {
        std::string_view suffix = local;
        std::uint64_t expert = 0;
        bool begins = false;
        if (take_pattern(suffix, layout.tensors[t].name, expert, begins))
            for (std::size_t f = 0; f < layout.fields.size(); ++f)
                if (layout.fields[f].suffix == suffix)
                    return {name_verdict::tensor, static_cast<std::uint32_t>(t),
                            static_cast<std::uint32_t>(f), expert};
        if (begins) out = {name_verdict::leftover, static_cast<std::uint32_t>(t), 0, expert};
    }
    return out;
}

/// Appends the name of a tensor of the layout. The inverse of match. Returns false if memory runs
/// out.
SAFEFUSE_NOINLINE inline bool spell(text& out, std::string_view pattern, std::uint64_t expert,
                                    std::string_view suffix) noexcept {
    const std::size_t hole = find_hole(pattern);
    if (hole == std::string_view::npos) return out.append(pattern) && out.append(suffix);
    return out.append(pattern.substr(0, hole)) && out.append_number(expert) &&
           out.append(pattern.substr(hole + expert_hole.size())) && out.append(suffix);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
