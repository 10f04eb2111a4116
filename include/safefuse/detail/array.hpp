// safefuse: the growable array behind every table. Running out of memory is a return value here, not an exception, and no
// element is constructed one by one, which is why it is not std::vector.
#ifndef SAFEFUSE_DETAIL_ARRAY_HPP
#define SAFEFUSE_DETAIL_ARRAY_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include <safefuse/config.hpp>
#include <safefuse/sequence.hpp>

namespace safefuse::inline SAFEFUSE_ABI::detail {

/// Elements in one block of memory. Calls that return false leave the array as it was; they fail only for lack of memory.
template <class T>
class array {
    static_assert(__is_trivially_copyable(T));  // what every compiler calls it: the trait behind it costs more than the class

public:
    array() noexcept = default;
    array(array&& other) noexcept : data_{other.data_}, size_{other.size_}, capacity_{other.capacity_} { other.forget(); }
    array& operator=(array&& other) noexcept {
        if (this != &other) {
            std::free(data_);
            data_ = other.data_;
            size_ = other.size_;
            capacity_ = other.capacity_;
            other.forget();
        }
        return *this;
    }
    ~array() { std::free(data_); }

    [[nodiscard]] T* data() noexcept { return data_; }
    [[nodiscard]] const T* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] T& operator[](std::size_t i) noexcept { return data_[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data_[i]; }
    [[nodiscard]] T& back() noexcept { return data_[size_ - 1]; }
    [[nodiscard]] T* begin() noexcept { return data_; }
    [[nodiscard]] T* end() noexcept { return data_ + size_; }
    [[nodiscard]] const T* begin() const noexcept { return data_; }
    [[nodiscard]] const T* end() const noexcept { return data_ + size_; }
    [[nodiscard]] sequence<T> span() noexcept { return {data_, size_}; }
    [[nodiscard]] sequence<const T> span() const noexcept { return {data_, size_}; }

    [[nodiscard]] bool reserve(std::size_t count) noexcept {
        if (count <= capacity_) return true;
        if (count > PTRDIFF_MAX / sizeof(T)) return false;
        void* grown = std::realloc(data_, count * sizeof(T));
        if (grown == nullptr) return false;
        data_ = static_cast<T*>(grown);
        capacity_ = count;
        return true;
    }

    [[nodiscard]] bool push(const T& value) noexcept {
        if (size_ == capacity_) {
            const T copy = value;  // `value` may lie in the block that moves
            if (!reserve(capacity_ < 8 ? 8 : capacity_ + capacity_ / 2)) return false;
            data_[size_++] = copy;
            return true;
        }
        data_[size_++] = value;
        return true;
    }

    [[nodiscard]] bool append(const T* first, std::size_t count) noexcept {
        if (count == 0) return true;
        if (count > capacity_ - size_) {
            const std::size_t half_more = capacity_ + capacity_ / 2;
            if (count > PTRDIFF_MAX / sizeof(T) - size_) return false;
            if (!reserve(size_ + count > half_more ? size_ + count : half_more)) return false;
        }
        std::memcpy(data_ + size_, first, count * sizeof(T));
        size_ += count;
        return true;
    }

    /// Grows with elements equal to `value`, or shrinks.
    [[nodiscard]] bool resize(std::size_t count, const T& value = T{}) noexcept {
        if (!reserve(count)) return false;
        for (std::size_t i = size_; i < count; ++i) data_[i] = value;
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
    void forget() noexcept {
        data_ = nullptr;
        size_ = capacity_ = 0;
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
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
