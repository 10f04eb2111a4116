// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the growable array that every table uses. It differs from std::vector in one point: if
// memory runs out, calls return false instead of throwing.
#ifndef SAFEFUSE_CORE_VECTOR_HPP
#define SAFEFUSE_CORE_VECTOR_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The memory of a vector, independent of the element type: all types share one copy of the growth
/// code.
struct vector_memory {
    void* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;

    /// Makes room for at least `count` trivially copyable elements.
    [[nodiscard]] SAFEFUSE_NOINLINE bool grow(std::size_t count,
                                              std::size_t element_bytes) noexcept {
        if (count <= capacity_) return true;
        if (count > PTRDIFF_MAX / element_bytes) return false;
        void* grown = std::realloc(data_, count * element_bytes);
        if (grown == nullptr) return false;
        data_ = grown;
        capacity_ = count;
        return true;
    }
    /// The capacity to grow to when `more` elements are added: at least half as much again.
    [[nodiscard]] std::size_t next_capacity(std::size_t more) const noexcept {
        const std::size_t half_more = capacity_ < 8 ? 8 : capacity_ + capacity_ / 2;
        return size_ + more > half_more ? size_ + more : half_more;
    }
    /// Makes room for `more` trivially copyable elements after the existing ones.
    [[nodiscard]] SAFEFUSE_NOINLINE bool grow_by(std::size_t more,
                                                 std::size_t element_bytes) noexcept {
        if (more <= capacity_ - size_) return true;
        if (more > PTRDIFF_MAX / element_bytes - size_) return false;
        return grow(next_capacity(more), element_bytes);
    }
    /// Appends `count` trivially copyable elements; `first` may point into the block that moves.
    [[nodiscard]] SAFEFUSE_NOINLINE bool append(const void* first, std::size_t count,
                                                std::size_t element_bytes) noexcept {
        if (count == 0) return true;
        const std::uintptr_t at =
            reinterpret_cast<std::uintptr_t>(first) - reinterpret_cast<std::uintptr_t>(data_);
        const bool inside = at < size_ * element_bytes;
        if (!grow_by(count, element_bytes)) return false;
        char* const characters = static_cast<char*>(data_);
        std::memcpy(characters + size_ * element_bytes, inside ? characters + at : first,
                    count * element_bytes);
        size_ += count;
        return true;
    }
};

}  // namespace detail

/// Owned elements in one block of memory. A call that returns false leaves the vector as it was;
/// the only cause is lack of memory. Elements that are not trivially copyable are moved one by one.
template <class T>
class vector : private detail::vector_memory {
    // The compiler builtin: the standard trait costs more to compile than this class.
    static constexpr bool is_plain = __is_trivially_copyable(T);

public:
    /// The name that containers use.
    using value_type = T;

    vector() noexcept = default;
    /// Leaves the other vector empty.
    vector(vector&& other) noexcept : vector_memory{other} { other.forget(); }
    /// Leaves the other vector empty.
    vector& operator=(vector&& other) noexcept {
        if (this != &other) {
            release();
            vector_memory::operator=(other);
            other.forget();
        }
        return *this;
    }
    ~vector() { release(); }

    /// @{
    /// The first element; null if nothing was ever allocated.
    ///   lifetime  until the vector grows or is destroyed
    [[nodiscard]] T* data() noexcept SAFEFUSE_LIFETIMEBOUND { return static_cast<T*>(data_); }
    [[nodiscard]] const T* data() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return static_cast<const T*>(data_);
    }
    /// @}
    /// The number of elements.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// The number of elements that fit without growing.
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    /// True if there is no element.
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// @{
    /// Element `i`, which must exist: nothing is checked.
    [[nodiscard]] T& operator[](std::size_t i) noexcept SAFEFUSE_LIFETIMEBOUND { return data()[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND {
        return data()[i];
    }
    [[nodiscard]] T& back() noexcept SAFEFUSE_LIFETIMEBOUND { return data()[size_ - 1]; }
    /// @}
    /// @{
    /// For range-based loops.
    [[nodiscard]] T* begin() noexcept SAFEFUSE_LIFETIMEBOUND { return data(); }
    [[nodiscard]] T* end() noexcept SAFEFUSE_LIFETIMEBOUND { return data() + size_; }
    [[nodiscard]] const T* begin() const noexcept SAFEFUSE_LIFETIMEBOUND { return data(); }
    [[nodiscard]] const T* end() const noexcept SAFEFUSE_LIFETIMEBOUND { return data() + size_; }
    /// @}
    /// @{
    /// All elements.
    ///   lifetime  until the vector grows or is destroyed
    [[nodiscard]] span<T> view() noexcept SAFEFUSE_LIFETIMEBOUND { return {data(), size_}; }
    [[nodiscard]] span<const T> view() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {data(), size_};
    }
    /// @}

    /// Makes room for at least `count` elements in all.
    [[nodiscard]] bool reserve(std::size_t count) noexcept {
        if constexpr (is_plain)
            return grow(count, sizeof(T));
        else
            return count <= capacity_ || move_to_block(count);
    }

    /// Appends a copy; `value` may be an element of this vector.
    [[nodiscard]] bool push(const T& value) noexcept
        requires is_plain
    {
        if (sizeof(T) > 64 || size_ == capacity_) return append(&value, 1);
        data()[size_++] = value;
        return true;
    }
    /// Appends by moving.
    [[nodiscard]] SAFEFUSE_NOINLINE bool push(T&& value) noexcept
        requires(!is_plain)
    {
        if (size_ == capacity_ && !reserve(next_capacity(1))) return false;
        new (static_cast<void*>(data() + size_++)) T{static_cast<T&&>(value)};
        return true;
    }

    /// Appends copies of `count` elements, which may be elements of this vector.
    [[nodiscard]] bool append(const T* first, std::size_t count) noexcept
        requires is_plain
    {
        return vector_memory::append(first, count, sizeof(T));
    }

    /// Grows with elements equal to `value`, or shrinks.
    [[nodiscard]] bool resize(std::size_t count, const T& value = T{}) noexcept
        requires is_plain
    {
        const T copy = value;  // it may be in the block that moves
        if (!reserve(count)) return false;
        for (std::size_t i = size_; i < count; ++i) data()[i] = copy;
        size_ = count;
        return true;
    }

    /// Grows without writing the new elements, or shrinks.
    [[nodiscard]] bool resize_unset(std::size_t count) noexcept
        requires is_plain
    {
        if (!reserve(count)) return false;
        size_ = count;
        return true;
    }

    /// Removes all elements and keeps the memory.
    void clear() noexcept {
        if constexpr (!is_plain) destroy();
        size_ = 0;
    }
    /// Removes the last element, which must exist.
    void pop() noexcept {
        --size_;
        if constexpr (!is_plain) data()[size_].~T();
    }

private:
    void forget() noexcept { vector_memory::operator=({}); }
    SAFEFUSE_NOINLINE void destroy() noexcept {
        for (std::size_t i = size_; i != 0; --i) data()[i - 1].~T();
    }
    void release() noexcept {
        if constexpr (!is_plain) destroy();
        std::free(data_);
    }
    SAFEFUSE_NOINLINE bool move_to_block(std::size_t count) noexcept {
        static_assert(alignof(T) <= alignof(std::max_align_t));
        if (count > PTRDIFF_MAX / sizeof(T)) return false;
        auto* const grown = static_cast<T*>(std::malloc(count * sizeof(T)));
        if (grown == nullptr) return false;
        for (std::size_t i = 0; i < size_; ++i) {
            new (static_cast<void*>(grown + i)) T{static_cast<T&&>(data()[i])};
            data()[i].~T();
        }
        std::free(data_);
        data_ = grown;
        capacity_ = count;
        return true;
    }
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
