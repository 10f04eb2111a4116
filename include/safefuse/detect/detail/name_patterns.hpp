// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: reduces a large set to a few tensors, for questions that depend only on the kinds of
// names.
#ifndef SAFEFUSE_DETECT_DETAIL_NAME_PATTERNS_HPP
#define SAFEFUSE_DETECT_DETAIL_NAME_PATTERNS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Some tensors of a set, in the same order, as a tensor set.
class chosen_tensors {
public:
    explicit chosen_tensors(tensor_set_ref set) noexcept : set_{set} {}

    [[nodiscard]] bool add(std::size_t i) noexcept {
        return numbers_.push(static_cast<std::uint32_t>(i));
    }
    /// The index in the original set of tensor i.
    [[nodiscard]] std::uint32_t number(std::size_t i) const noexcept { return numbers_[i]; }

    [[nodiscard]] std::size_t size() const noexcept { return numbers_.size(); }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return set_.spec(numbers_[i]); }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        return set_.place(numbers_[i]);
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const noexcept {
        return set_.source_name(source);
    }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return set_.source_bytes(source);
    }
    [[nodiscard]] result<void> read(std::uint32_t source, std::uint64_t offset,
                                    span<std::byte> out) const noexcept {
        return set_.read(source, offset, out);
    }
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        return set_.check(source);
    }

private:
    tensor_set_ref set_;
    vector<std::uint32_t> numbers_;
};

constexpr bool is_number(std::string_view segment) noexcept {
    for (const char c : segment)
        if (c < '0' || c > '9') return false;
    return !segment.empty();
}

/// The number of digits of the longest number that is a whole segment of a pattern.
constexpr std::size_t longest_number(std::string_view pattern) noexcept {
    std::size_t longest = 0;
    for (std::size_t at = 0; at <= pattern.size();) {
        std::size_t end = at;
        while (end < pattern.size() && pattern[end] != '.') ++end;
        if (is_number(pattern.substr(at, end - at)) && end - at > longest) longest = end - at;
        at = end + 1;
    }
    return longest;
}

/// Keeps the first of all names that differ only in numbers. Such a number is a whole segment, and
/// longer than `spelled_digits`, so it is in no pattern. Layers and experts cause most of a
/// checkpoint's names: of a million names a few thousand remain. A pattern matches one of these if
/// it matches any name.
///   fails   file_changed, out_of_memory
inline result<chosen_tensors> one_of_each_kind(tensor_set_ref set,
                                               std::size_t spelled_digits) noexcept {
    constexpr std::size_t most_digits = 18;  // so many digits always fit 64 bits
    const failure no_memory{.code = errc::out_of_memory};
    struct kind {
        std::size_t first;
        std::size_t size;
    };
    chosen_tensors out{set};
    vector<kind> kinds;
    // the kinds' names, with a byte that no name contains in place of each such number
    vector<char> spelled;
    name_table table;
    const auto names = [&](std::uint32_t i) noexcept {
        return characters_at(spelled.data() + kinds[i].first, kinds[i].size);
    };
    source_check check{set};
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (auto same = check.before(set.place(i).source); !same) return std::move(same).error();
        const std::string_view name = set.spec(i).name;
        const std::size_t first = spelled.size();
        if (!spelled.resize_unset(first + name.size() + 1)) return no_memory;
        char* to = spelled.data() + first;
        for (std::size_t at = 0; at <= name.size();) {
            const std::size_t dot = name.find('.', at);
            const std::size_t end = dot == std::string_view::npos ? name.size() : dot;
            const std::string_view segment = name.substr(at, end - at);
            const bool is_plain =
                segment.size() <= most_digits && (segment.size() == 1 || !segment.starts_with('0'));
            if (segment.size() > spelled_digits && is_plain && is_number(segment)) {
                *to++ = '\xFF';
            } else {
                for (const char c : segment) *to++ = c;
            }
            *to++ = '.';
            at = end + 1;
        }
        const std::size_t size = static_cast<std::size_t>(to - spelled.data()) - first;
        const auto inserted = table.insert(characters_at(spelled.data() + first, size),
                                           static_cast<std::uint32_t>(kinds.size()), names);
        if (inserted.what == name_table::outcome::out_of_memory) return no_memory;
        const bool is_new = inserted.what == name_table::outcome::inserted;
        if (!spelled.resize_unset(is_new ? first + size : first)) return no_memory;
        if (is_new && (!kinds.push({first, size}) || !out.add(i))) return no_memory;
    }
    return out;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
