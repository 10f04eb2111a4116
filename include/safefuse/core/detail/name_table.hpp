// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a flat hash table from names to indices. It stores no names: it asks its owner for
// them.
#ifndef SAFEFUSE_CORE_DETAIL_NAME_TABLE_HPP
#define SAFEFUSE_CORE_DETAIL_NAME_TABLE_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The high and low half of a 128-bit product, combined with xor.
[[nodiscard]] constexpr std::uint64_t multiply_fold(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
    __extension__ using wide = unsigned __int128;
    const wide product = static_cast<wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
    const std::uint64_t a_low = a & 0xFFFFFFFF, a_high = a >> 32, b_low = b & 0xFFFFFFFF,
                        b_high = b >> 32;
    const std::uint64_t low = a_low * b_low;
    const std::uint64_t middle = a_high * b_low + (low >> 32);
    const std::uint64_t other_middle = a_low * b_high + (middle & 0xFFFFFFFF);
    return ((other_middle << 32) | (low & 0xFFFFFFFF)) ^
           (a_high * b_high + (middle >> 32) + (other_middle >> 32));
#endif
}

inline void prefetch([[maybe_unused]] const void* address) noexcept {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(address);
#endif
}

/// A hash that differs between tables and between runs, so that a file cannot contain names that
/// are chosen to collide. Both factors of every product are secret. If one were known, a name could
/// make it zero and so hide the characters before it.
class name_hash {
public:
    name_hash() noexcept = default;
    /// Derives the secrets from addresses, which the system randomises.
    explicit name_hash(const void* address) noexcept {
        const auto here = reinterpret_cast<std::uintptr_t>(&address);
        const auto code = reinterpret_cast<std::uintptr_t>(&prefetch);
        std::uint64_t state =
            multiply_fold(reinterpret_cast<std::uintptr_t>(address) ^ 0x9E3779B97F4A7C15,
                          here ^ 0xD6E8FEB86659FD93);
        state ^= multiply_fold(code ^ 0xA0761D6478BD642F, state ^ 0xE7037ED1A0B428DB);
        for (std::uint64_t& secret : secrets_) {
            state += 0x9E3779B97F4A7C15;
            secret = multiply_fold(state ^ 0x8EBC6AF09C88C6E3, state ^ 0x589965CC75374CC3) | 1;
        }
    }

    [[nodiscard]] bool has_secrets() const noexcept { return secrets_[0] != 0; }

    [[nodiscard]] SAFEFUSE_NOINLINE std::uint32_t operator()(std::string_view name) const noexcept {
        const char* at = name.data();
        std::size_t left = name.size();
        std::uint64_t state = secrets_[0] ^ left;
        for (; left > 16; at += 16, left -= 16)
            state = multiply_fold(state ^ word(at), secrets_[1] ^ word(at + 8));
        std::uint64_t first = 0, last = 0;  // the last 1 to 16 bytes, as two words that may overlap
        if (left >= 8) {
            first = word(at);
            last = word(at + left - 8);
        } else if (left >= 4) {
            first = half_word(at);
            last = half_word(at + left - 4);
        } else if (left > 0) {
            first = static_cast<unsigned char>(at[0]);
            last = std::uint64_t{static_cast<unsigned char>(at[left / 2])} << 8 |
                   static_cast<unsigned char>(at[left - 1]);
        }
        state = multiply_fold(state ^ first, secrets_[1] ^ last);
        return static_cast<std::uint32_t>(multiply_fold(state, secrets_[2]));
    }

private:
    [[nodiscard]] static std::uint64_t word(const char* at) noexcept {
        std::uint64_t value;
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    [[nodiscard]] static std::uint32_t half_word(const char* at) noexcept {
        std::uint32_t value;
        std::memcpy(&value, at, sizeof value);
        return value;
    }

    std::uint64_t secrets_[3]{};
};

/// Maps names to indices. `names(index)` must return the name of every inserted index; the table
/// calls it to compare. Holds up to 2^30 names.
class name_table {
public:
    /// The result of a search that finds nothing.
    static constexpr std::uint32_t npos = 0xFFFFFFFF;

    enum class outcome : std::uint8_t { inserted, already_there, out_of_memory };
    struct insertion {
        outcome what;
        /// the index of the name: the earlier one if the name was already there
        std::uint32_t index;
    };

    name_table() noexcept = default;
    /// Uses a given hash, for callers that compute hashes before the table is reserved.
    explicit name_table(const name_hash& hash) noexcept : hash_{hash} {}
    SAFEFUSE_NOINLINE name_table(name_table&& other) noexcept
        : slots_{std::move(other.slots_)}, hash_{other.hash_}, size_{exchange(other.size_, 0)} {}
    SAFEFUSE_NOINLINE name_table& operator=(name_table&& other) noexcept {
        slots_ = std::move(other.slots_);
        hash_ = other.hash_;
        size_ = exchange(other.size_, 0);
        return *this;
    }
    ~name_table() = default;

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Makes room for `count` names in total. Returns false and changes nothing if memory runs out.
    [[nodiscard]] bool reserve(std::size_t count) noexcept {
        if (has_room(count)) return true;
        if (count > most_names) return false;
        vector<slot> grown;
        if (!grown.resize(std::bit_ceil(count + count / 2 + 4), slot{0, npos})) return false;
        if (!hash_.has_secrets()) hash_ = name_hash{grown.data()};
        for (const slot& old : slots_) {
            if (old.index == npos) continue;
            std::size_t i = old.hash & (grown.size() - 1);
            while (grown[i].index != npos) i = (i + 1) & (grown.size() - 1);
            grown[i] = old;
        }
        slots_ = std::move(grown);
        return true;
    }

    /// The hash of a name in this table, for the calls below that take one. It is valid after the
    /// first reserve(), or after construction from a name_hash.
    [[nodiscard]] std::uint32_t hash(std::string_view name) const noexcept { return hash_(name); }

    /// Gives `name` the index `index`, unless the name is already there.
    template <class Names>
    [[nodiscard]] insertion insert(std::string_view name, std::uint32_t index,
                                   const Names& names) noexcept {
        if (!has_room(size_ + 1) && !reserve(size_ < 8 ? 16 : size_ * 2))
            return {outcome::out_of_memory, npos};
        return insert_hashed(name, hash_(name), index, names);
    }

    /// Like insert(), with a hash computed earlier and room already reserved. A loop over many
    /// names calls prefetch_slot() for names further ahead.
    template <class Names>
    [[nodiscard]] insertion insert_hashed(std::string_view name, std::uint32_t hash,
                                          std::uint32_t index, const Names& names) noexcept {
        slot& at = slots_[place(name, hash, names)];
        if (at.index != npos) return {outcome::already_there, at.index};
        at = {hash, index};
        ++size_;
        return {outcome::inserted, index};
    }
    void prefetch_slot(std::uint32_t hash) const noexcept {
        prefetch(slots_.data() + (hash & (slots_.size() - 1)));
    }

    /// The index of `name`, or npos.
    template <class Names>
    [[nodiscard]] std::uint32_t find(std::string_view name, const Names& names) const noexcept {
        return slots_.empty() ? npos : slots_[place(name, hash_(name), names)].index;
    }

    /// Replaces every index i by numbers[i].
    void renumber(span<const std::uint32_t> numbers) noexcept {
        for (slot& each : slots_)
            if (each.index != npos) each.index = numbers[each.index];
    }

    /// Removes all names and keeps the memory.
    void clear() noexcept {
        for (slot& each : slots_) each.index = npos;
        size_ = 0;
    }

private:
    struct slot {
        std::uint32_t hash;
        std::uint32_t index;
    };
    static constexpr std::size_t most_names = std::size_t{1} << 30;

    // At most two of three slots are used, so that every search soon reaches a free slot.
    [[nodiscard]] bool has_room(std::size_t count) const noexcept {
        return count <= slots_.size() / 3 * 2;
    }

    /// The slot of the name, or the free slot for it.
    template <class Names>
    [[nodiscard]] std::size_t place(std::string_view name, std::uint32_t hash,
                                    const Names& names) const noexcept {
        const std::size_t mask = slots_.size() - 1;
        std::size_t i = hash & mask;
        while (slots_[i].index != npos &&
               (slots_[i].hash != hash || names(slots_[i].index) != name))
            i = (i + 1) & mask;
        return i;
    }

    vector<slot> slots_;  // a power of two of them, or none
    name_hash hash_;
    std::size_t size_ = 0;
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
