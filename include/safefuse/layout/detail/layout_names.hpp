// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: names under a scope, read against a layout: which tensor, which field, which expert.
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
    other,     ///< has nothing to do with the layout
    tensor,    ///< one of its tensors, in one of its fields
    leftover,  ///< begins like one of its tensors, but is none: an unknown part or field
};

struct matched_name {
    name_verdict verdict = name_verdict::other;
    std::uint32_t tensor = 0;
    std::uint32_t field = 0;
    std::uint64_t expert = 0;
};

/// Takes the decimal digits at the beginning off `name`; false where there are none. `plain` says
/// whether they are a number as we write it: without leading zeros, within 64 bits.
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

/// Takes the name of a tensor of the layout off `name`, so that the field's suffix is left. With a
/// hole, `begins` says whether the name agrees with the pattern up to and including the expert's
/// number.
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
    // "07" and numbers beyond 64 bits name no expert, but look like one: they must not be passed
    // over
    if (!plain || !name.starts_with(rest)) return false;
    name.remove_prefix(rest.size());
    return true;
}

/// Reads a name, the scope and its dot taken off, against a layout.
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

/// Appends the name of a tensor of the layout; the inverse of match. False when memory ran out.
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
