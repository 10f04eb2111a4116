// safefuse: detail::array for elements that own something: failures, open files.
#ifndef SAFEFUSE_DETAIL_LIST_HPP
#define SAFEFUSE_DETAIL_LIST_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

#include <safefuse/config.hpp>
#include <safefuse/sequence.hpp>

namespace safefuse::inline SAFEFUSE_ABI::detail {

/// Elements in one block of memory. Calls that return false leave the list as it was; they fail only for lack of memory.
template <class T>
class list {
public:
    list() noexcept = default;
    list(list&& other) noexcept : data_{other.data_}, size_{other.size_}, capacity_{other.capacity_} {
        other.data_ = nullptr;
        other.size_ = other.capacity_ = 0;
    }
    list& operator=(list&& other) noexcept {
        if (this != &other) {
            this->~list();
            new (this) list{std::move(other)};
        }
        return *this;
    }
    SAFEFUSE_OUT_OF_LINE ~list() {
        while (size_ != 0) data_[--size_].~T();
        std::free(data_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] T& operator[](std::size_t i) noexcept { return data_[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data_[i]; }
    [[nodiscard]] T& back() noexcept { return data_[size_ - 1]; }
    [[nodiscard]] T* begin() noexcept { return data_; }
    [[nodiscard]] const T* begin() const noexcept { return data_; }
    [[nodiscard]] T* end() noexcept { return data_ + size_; }
    [[nodiscard]] const T* end() const noexcept { return data_ + size_; }
    [[nodiscard]] sequence<const T> span() const noexcept { return {data_, size_}; }

    [[nodiscard]] SAFEFUSE_OUT_OF_LINE bool reserve(std::size_t count) noexcept {
        static_assert(alignof(T) <= alignof(std::max_align_t));
        if (count <= capacity_) return true;
        if (count > PTRDIFF_MAX / sizeof(T)) return false;
        auto* const grown = static_cast<T*>(std::malloc(count * sizeof(T)));
        if (grown == nullptr) return false;
        for (std::size_t i = 0; i < size_; ++i) {
            new (grown + i) T{std::move(data_[i])};
            data_[i].~T();
        }
        std::free(data_);
        data_ = grown;
        capacity_ = count;
        return true;
    }

    [[nodiscard]] SAFEFUSE_OUT_OF_LINE bool push(T&& value) noexcept {
        if (size_ == capacity_ && !reserve(capacity_ < 8 ? 8 : capacity_ + capacity_ / 2)) return false;
        new (data_ + size_++) T{std::move(value)};
        return true;
    }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

}  // namespace safefuse::inline SAFEFUSE_ABI::detail

#endif
