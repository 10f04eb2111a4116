// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: renames between names in a checkpoint and in the loaded model. A rename is a pair of
// patterns of whole dotted segments, so it can be inverted.
#ifndef SAFEFUSE_LAYOUT_RENAME_HPP
#define SAFEFUSE_LAYOUT_RENAME_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/layout/layout.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Stands for a number in the patterns of a rename, equal on both sides.
inline constexpr std::string_view number_hole = "{i}";

/// Largest offset of a number: "{i+1}" stands for a number larger by one than that of "{i}" on the
/// other side.
inline constexpr std::uint64_t max_number_offset = 9;

/// Most numbers in the pattern of a rename.
inline constexpr std::size_t max_rename_numbers = 2;

/// A run of whole dotted segments of a name, and its replacement.
struct rename_description {
    /// As in the checkpoint. May contain {i}.
    std::string_view from;
    /// As in the model, with as many numbers.
    std::string_view to;
    /// Applies only at the start of a name.
    bool at_start = false;
    /// The inverse direction ignores it.
    bool one_way = false;
    /// Such names identify checkpoints of the family.
    bool tells_family = true;
    /// Applies even if all experts already have the wanted form.
    bool is_certain = false;
    /// `from` is the name in an older version of the model. It is the source in both directions.
    bool is_older = false;
};

/// Renames in order and in one direction. One-way renames are skipped in the inverse direction.
class rename_list {
public:
    /// Iterates over the renames in the direction of the list.
    class iterator {
    public:
        /// Points to a rename of the array that starts at `first`. If `inverse`, it is the one
        /// before `at`.
        constexpr explicit iterator(const rename_description* at, const rename_description* first,
                                    bool inverse) noexcept
            : at_{at}, first_{first}, inverse_{inverse} {
            skip();
        }
        /// The rename, inverted if the list is.
        constexpr rename_description operator*() const noexcept {
            if (!inverse_) return *at_;
            rename_description turned = at_[-1];
            if (turned.is_older) return turned;
            turned.from = at_[-1].to;
            turned.to = at_[-1].from;
            return turned;
        }
        /// Advances to the next rename that has this direction.
        constexpr iterator& operator++() noexcept {
            inverse_ ? --at_ : ++at_;
            skip();
            return *this;
        }
        /// Whether both are at the same rename of one list.
        constexpr bool operator==(const iterator& other) const noexcept { return at_ == other.at_; }

    private:
        constexpr void skip() noexcept {
            while (inverse_ && at_ != first_ && at_[-1].one_way) --at_;
        }
        const rename_description* at_;
        const rename_description* first_;
        bool inverse_;
    };

    constexpr rename_list() noexcept = default;
    /// The renames [first, first + count). If `inverse`, each is inverted and the last comes first.
    constexpr rename_list(const rename_description* first, std::size_t count, bool inverse) noexcept
        : first_{first}, count_{count}, inverse_{inverse} {}

    /// The list in the other direction.
    [[nodiscard]] constexpr rename_list reversed() const noexcept {
        return {first_, count_, !inverse_};
    }

    /// @{
    /// For range-based loops.
    [[nodiscard]] constexpr iterator begin() const noexcept {
        return iterator{inverse_ ? first_ + count_ : first_, first_, inverse_};
    }
    [[nodiscard]] constexpr iterator end() const noexcept {
        return iterator{inverse_ ? first_ : first_ + count_, first_, inverse_};
    }
    /// @}
    /// Whether there is no rename in this direction.
    [[nodiscard]] constexpr bool empty() const noexcept { return begin() == end(); }
    /// Number of renames in this direction, counted at each call.
    [[nodiscard]] constexpr std::size_t size() const noexcept {
        std::size_t size = 0;
        for (iterator at = begin(); at != end(); ++at) ++size;
        return size;
    }

private:
    const rename_description* first_ = nullptr;
    std::size_t count_ = 0;
    bool inverse_ = false;
};

namespace detail {

/// As string_view::find.
SAFEFUSE_NOINLINE constexpr std::size_t find_text(std::string_view name, std::string_view wanted,
                                                  std::size_t from) noexcept {
    return name.find(wanted, from);
}

/// Position of `segments` in `name` as whole dotted segments, at the start or anywhere. npos if not
/// found.
constexpr std::size_t find_segments(std::string_view name, std::string_view segments,
                                    bool at_start = false) noexcept {
    if (segments.empty()) return std::string_view::npos;
    for (std::size_t i = find_text(name, segments, 0); i != std::string_view::npos;
         i = find_text(name, segments, i + 1)) {
        const bool begins = i == 0 || (!at_start && name[i - 1] == '.');
        const bool ends = i + segments.size() == name.size() || name[i + segments.size()] == '.';
        if (begins && ends) return i;
        if (at_start) break;
    }
    return std::string_view::npos;
}

/// Position of the first {i} in a pattern, or npos.
constexpr std::size_t find_number(std::string_view pattern) noexcept {
    for (std::size_t i = 0; i < pattern.size(); ++i)
        if (pattern[i] == '{') return i;
    return std::string_view::npos;
}

/// An {i} or {i+K} at the start of a pattern.
struct number_slot {
    std::size_t size = 0;      ///< its characters in the pattern; 0: none
    std::uint64_t offset = 0;  ///< K
};
constexpr number_slot hole_at(std::string_view pattern) noexcept {
    if (pattern.starts_with(number_hole)) return {number_hole.size(), 0};
    const std::size_t plus = number_hole.size() - 1;
    if (pattern.size() < plus + 3 || !pattern.starts_with(number_hole.substr(0, plus)) ||
        pattern[plus] != '+')
        return {};
    const char digit = pattern[plus + 1];
    if (digit < '1' || digit > '9' || pattern[plus + 2] != '}') return {};
    return {plus + 3, static_cast<std::uint64_t>(digit - '0')};
}

/// The value of a number without leading zeros that leaves room for an offset; otherwise
/// no_number_value.
inline constexpr std::uint64_t no_number_value = ~std::uint64_t{0};
constexpr std::uint64_t number_value(std::string_view digits) noexcept {
    if (digits.empty() || digits.size() > 18 || (digits.size() > 1 && digits[0] == '0'))
        return no_number_value;
    std::uint64_t value = 0;
    for (const char c : digits) value = value * 10 + static_cast<std::uint64_t>(c - '0');
    return value;
}

/// Position of `inner` in `outer` as whole segments, or npos.
constexpr std::size_t find_inner(std::string_view outer, std::string_view inner) noexcept {
    for (std::size_t i = 0; i + inner.size() <= outer.size(); ++i) {
        std::size_t same = 0;
        while (same < inner.size() && outer[i + same] == inner[same]) ++same;
        const std::size_t end = i + inner.size();
        if (same == inner.size() && (i == 0 || outer[i - 1] == '.') &&
            (end == outer.size() || outer[end] == '.'))
            return i;
    }
    return std::string_view::npos;
}

inline constexpr std::size_t no_pattern = ~std::size_t{0};

/// How many numbers a pattern has, or no_pattern if it does not consist of whole segments. One
/// pass, because the compiler evaluates it for hundreds of patterns.
constexpr std::size_t count_numbers(std::string_view pattern) noexcept {
    std::size_t count = 0;
    bool in_hole = false;
    char before = '.';
    for (std::size_t i = 0; i < pattern.size(); before = pattern[i++]) {
        const char c = pattern[i];
        if (c == '{') {
            if (in_hole || hole_at(pattern.substr(i)).size == 0) return no_pattern;
            ++count;
        }
        in_hole = c == '{' || (in_hole && c != '}');
        if ((c == '.' && before == '.') || c == '^' || c == '$' || c == '*' || c == '\\')
            return no_pattern;
    }
    return before == '.' || count > max_rename_numbers ? no_pattern : count;
}

constexpr rename_description describe_rename(const char* stored, const char* model, bool one_way,
                                             bool tells_family) noexcept {
    const bool at_start = *stored == '^';
    stored += at_start ? 1 : 0;
    // the compiler evaluates the builtin faster than char_traits
    return {{stored, __builtin_strlen(stored)},
            {model, __builtin_strlen(model)},
            at_start,
            one_way,
            tells_family};
}
constexpr bool is_rename(const rename_description& rename) noexcept {
    const std::size_t numbers = count_numbers(rename.from);
    return numbers != no_pattern && numbers == count_numbers(rename.to);
}
constexpr bool are_renames(span<const rename_description> renames) noexcept {
    for (const rename_description& each : renames)
        if (!is_rename(each)) return false;
    return true;
}

/// A match of a pattern in a name: `size` characters from `first`, and the numbers in them.
struct found_pattern {
    std::size_t first = std::string_view::npos;
    std::size_t size = 0;
    std::string_view numbers[max_rename_numbers]{};
    std::uint64_t offsets[max_rename_numbers]{};  ///< the pattern's offset of each number
};

/// Matches a pattern at the start of `name`. Returns false unless it matches whole segments.
constexpr bool begins_with_pattern(std::string_view name, std::string_view pattern,
                                   found_pattern& found) noexcept {
    const std::string_view whole = name;
    std::size_t count = 0;
    for (;;) {
        const std::size_t hole = find_number(pattern);
        const std::string_view literal = pattern.substr(0, hole);
        if (!name.starts_with(literal)) return false;
        name.remove_prefix(literal.size());
        if (hole == std::string_view::npos) break;
        std::size_t digits = 0;
        while (digits < name.size() && name[digits] >= '0' && name[digits] <= '9') ++digits;
        if (digits == 0) return false;
        const number_slot slot = hole_at(pattern.substr(hole));
        if (slot.offset != 0) {
            const std::uint64_t value = number_value(name.substr(0, digits));
            if (value == no_number_value || value < slot.offset) return false;
        }
        found.offsets[count] = slot.offset;
        found.numbers[count++] = name.substr(0, digits);
        name.remove_prefix(digits);
        pattern.remove_prefix(hole + slot.size);
    }
    found.size = whole.size() - name.size();
    return name.empty() || name.front() == '.';
}

/// Where a rename applies in a name: the first match of `from` that is not part of a match of `to`.
constexpr found_pattern find_rename(std::string_view name,
                                    const rename_description& rename) noexcept {
    const std::string_view head = rename.from.substr(0, find_number(rename.from));
    for (std::size_t i = find_text(name, head, 0); i != std::string_view::npos;
         i = find_text(name, head, i + 1)) {
        if (i != 0 && rename.at_start) break;
        if (i != 0 && name[i - 1] != '.') continue;
        found_pattern found;
        if (!begins_with_pattern(name.substr(i), rename.from, found)) continue;
        if (const std::size_t inner = find_inner(rename.to, rename.from); inner <= i) {
            found_pattern already;
            const std::size_t begin = i - inner;
            const bool whole = begin == 0 || name[begin - 1] == '.';
            if (whole && begins_with_pattern(name.substr(begin), rename.to, already)) continue;
        }
        found.first = i;
        return found;
    }
    return {};
}

/// Appends a pattern with the numbers of a match. Returns false if memory runs out.
inline bool append_pattern(text& out, std::string_view pattern,
                           const found_pattern& found) noexcept {
    bool whole = true;
    std::size_t count = 0;
    for (std::size_t hole = find_number(pattern); hole != std::string_view::npos;
         hole = find_number(pattern), ++count) {
        const number_slot slot = hole_at(pattern.substr(hole));
        whole = whole && out.append(pattern.substr(0, hole));
        const std::uint64_t value = slot.offset == found.offsets[count]
                                        ? no_number_value
                                        : number_value(found.numbers[count]);
        whole = whole && (value == no_number_value
                              ? out.append(found.numbers[count])
                              : out.append_number(value - found.offsets[count] + slot.offset));
        pattern.remove_prefix(hole + slot.size);
    }
    return whole && out.append(pattern);
}

/// Applies a rename if it matches, and returns whether it did. Sets `memory` to false if memory ran
/// out.
SAFEFUSE_NOINLINE inline bool apply_rename(text& name, const rename_description& rename,
                                           bool& memory) noexcept {
    const found_pattern found = find_rename(name, rename);
    if (found.first == std::string_view::npos) return false;
    text out;
    bool whole =
        out.append(name.view().substr(0, found.first)) && append_pattern(out, rename.to, found);
    whole = whole && out.append(name.view().substr(found.first + found.size));
    memory = memory && whole;
    name = std::move(out);
    return true;
}

}  // namespace detail

/// A rename of `stored` in the checkpoint to `model` in the loaded model:
/// rename("block_sparse_moe", "mlp"). Both are whole dotted segments. A leading ^ in `stored`
/// matches only at the start of a name. {i} stands for digits: rename("^vision.linear_{i}",
/// "model.vision.layers.{i}.linear"). A name that already contains `model` stays. A malformed
/// pattern is a compile error at first use of the family.
constexpr rename_description rename(const char* stored, const char* model) noexcept {
    return detail::describe_rename(stored, model, false, true);
}

/// Another spelling of stored names. It is read but never written: the inverse direction ignores
/// it.
constexpr rename_description alias(const char* stored, const char* model) noexcept {
    return detail::describe_rename(stored, model, true, false);
}

/// A rename that does not identify the family: only some of its checkpoints have such names, or
/// other families have them, too.
constexpr rename_description optional_rename(const char* stored, const char* model) noexcept {
    return detail::describe_rename(stored, model, false, false);
}

/// A rename that applies even if all experts already have the wanted form, because an older version
/// of the model had that form under the stored name. `stored` must not begin a name of the model.
constexpr rename_description always(rename_description rename) noexcept {
    rename.is_certain = true;
    return rename;
}

/// Renames `older`, a name in the model of an older version of transformers, to `model`. Declare
/// these after all renames of stored names. The inverse direction applies them first.
constexpr rename_description formerly(const char* older, const char* model) noexcept {
    rename_description rename = detail::describe_rename(older, model, false, false);
    rename.is_certain = rename.is_older = true;
    return rename;
}

/// The name after those renames that apply whatever form the experts have. `name` may be a prefix
/// of whole segments.
///   fails   out_of_memory
[[nodiscard]] inline result<text> renamed_always(const rename_list& renames,
                                                 std::string_view name) noexcept {
    text out{name};
    bool memory = out.size() == name.size();
    for (const rename_description each : renames)
        if (each.is_certain) detail::apply_rename(out, each, memory);
    if (!memory) return detail::lack_of_memory{};
    return out;
}

/// The name after all renames. `name` may be a prefix of whole segments.
///   fails   out_of_memory
[[nodiscard]] inline result<text> renamed(const rename_list& renames,
                                          std::string_view name) noexcept {
    text out{name};
    bool memory = out.size() == name.size();
    for (const rename_description each : renames) detail::apply_rename(out, each, memory);
    if (!memory) return detail::lack_of_memory{};
    return out;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
