// safefuse: the growable array behind every table. Running out of memory is a return value here, not an exception, and no
// element is constructed one by one, which is why it is not std::vector.
#ifndef SAFEFUSE_CORE_VECTOR_HPP
#define SAFEFUSE_CORE_VECTOR_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <safefuse/core/config.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse::inline SAFEFUSE_ABI::detail {

/// The memory of an array, whatever its elements are: one copy of how it grows serves all of them.
struct array_memory {
    void* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;

    /// Room for `count` elements, at least.
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE bool grow(std::size_t count, std::size_t element_bytes) noexcept {
        if (count <= capacity_) return true;
        if (count > PTRDIFF_MAX / element_bytes) return false;
        void* grown = std::realloc(data_, count * element_bytes);
        if (grown == nullptr) return false;
        data_ = grown;
        capacity_ = count;
        return true;
    }
    /// Room for `more` elements beside those there are, and for others to come.
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE bool grow_by(std::size_t more, std::size_t element_bytes) noexcept {
        if (more <= capacity_ - size_) return true;
        if (more > PTRDIFF_MAX / element_bytes - size_) return false;
        const std::size_t half_more = capacity_ < 8 ? 8 : capacity_ + capacity_ / 2;
        return grow(size_ + more > half_more ? size_ + more : half_more, element_bytes);
    }
    /// `first` may lie in the block that moves.
    [[nodiscard]] SAFEFUSE_OUT_OF_LINE bool append(const void* first, std::size_t count, std::size_t element_bytes) noexcept {
        if (count == 0) return true;
        const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(first) - reinterpret_cast<std::uintptr_t>(data_);
        const bool inside = at < size_ * element_bytes;
        if (!grow_by(count, element_bytes)) return false;
        char* const characters = static_cast<char*>(data_);
        std::memcpy(characters + size_ * element_bytes, inside ? characters + at : first, count * element_bytes);
        size_ += count;
        return true;
    }
};

/// Elements in one block of memory. Calls that return false leave the array as it was; they fail only for lack of memory.
template <class T>
class array : private array_memory {
    static_assert(__is_trivially_copyable(T));  // what every compiler calls it: the trait behind it costs more than the class

public:
    array() noexcept = default;
    array(array&& other) noexcept : array_memory{other} { other.forget(); }
    array& operator=(array&& other) noexcept {
        if (this != &other) {
            std::free(data_);
            array_memory::operator=(other);
            other.forget();
        }
        return *this;
    }
    ~array() { std::free(data_); }

    [[nodiscard]] T* data() noexcept { return static_cast<T*>(data_); }
    [[nodiscard]] const T* data() const noexcept { return static_cast<const T*>(data_); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] T& operator[](std::size_t i) noexcept { return data()[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data()[i]; }
    [[nodiscard]] T& back() noexcept { return data()[size_ - 1]; }
    [[nodiscard]] T* begin() noexcept { return data(); }
    [[nodiscard]] T* end() noexcept { return data() + size_; }
    [[nodiscard]] const T* begin() const noexcept { return data(); }
    [[nodiscard]] const T* end() const noexcept { return data() + size_; }
    [[nodiscard]] sequence<T> span() noexcept { return {data(), size_}; }
    [[nodiscard]] sequence<const T> span() const noexcept { return {data(), size_}; }

    [[nodiscard]] bool reserve(std::size_t count) noexcept { return grow(count, sizeof(T)); }

    [[nodiscard]] bool push(const T& value) noexcept {
        if (sizeof(T) > 64 || size_ == capacity_) return append(&value, 1);
        data()[size_++] = value;
        return true;
    }

    [[nodiscard]] bool append(const T* first, std::size_t count) noexcept {
        return array_memory::append(first, count, sizeof(T));
    }

    /// Grows with elements equal to `value`, or shrinks.
    [[nodiscard]] bool resize(std::size_t count, const T& value = T{}) noexcept {
        const T copy = value;  // it may lie in the block that moves
        if (!reserve(count)) return false;
        for (std::size_t i = size_; i < count; ++i) data()[i] = copy;
        size_ = count;
        return true;
    }

    /// Grows without writing the new elements, or shrinks.
    [[nodiscard]] bool resize_unset(std::size_t count) noexcept {
        if (!reserve(count)) return false;
        size_ = count;
        return true;
    }

    void clear() noexcept { size_ = 0; }
    void pop() noexcept { --size_; }

private:
    void forget() noexcept { array_memory::operator=({}); }
};

/// Stable merge sort: `less(a, b)` says whether a must stand before b. Returns false, with the elements as they were, when
/// there is no memory for the second half-size copy; elements that are already in order cost one pass and no memory.
template <class T, class Less>
[[nodiscard]] bool sort(sequence<T> values, Less less) noexcept {
    const std::size_t count = values.size();
    std::size_t in_order = 1;
    while (in_order < count && !less(values[in_order], values[in_order - 1])) ++in_order;
    if (in_order >= count) return true;
    array<T> other;
    if (!other.resize_unset(count)) return false;
    T* from = values.data();
    T* to = other.data();
    for (std::size_t width = 1; width < count; width *= 2) {
        for (std::size_t start = 0; start < count; start += 2 * width) {
            const std::size_t middle = count - start < width ? count : start + width;
            const std::size_t stop = count - start < 2 * width ? count : start + 2 * width;
            std::size_t left = start, right = middle;
            for (std::size_t i = start; i < stop; ++i)
                to[i] = (right == stop || (left < middle && !less(from[right], from[left]))) ? from[left++] : from[right++];
        }
        T* const sorted = to;
        to = from;
        from = sorted;
    }
    if (from != values.data()) std::memcpy(values.data(), from, count * sizeof(T));
    return true;
}

}  // namespace safefuse::inline SAFEFUSE_ABI::detail

#endif
