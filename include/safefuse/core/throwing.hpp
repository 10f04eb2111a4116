// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: exceptions for callers who prefer them. This header is opt-in: no other header includes
// it, and only this one contains `throw`.
#ifndef SAFEFUSE_CORE_THROWING_HPP
#define SAFEFUSE_CORE_THROWING_HPP

#include <exception>
#include <utility>

#include <safefuse/core/result.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// A failure as an exception.
class failure_exception : public std::exception {
public:
    /// Stores the failure and its message.
    explicit failure_exception(failure why) noexcept
        : why_{std::move(why)}, message_{why_.message()} {}

    /// What went wrong, where and by how much.
    [[nodiscard]] const safefuse::failure& why() const noexcept { return why_; }
    /// The failure's message().
    [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

private:
    safefuse::failure why_;
    text message_;
};

/// The value of a result.
///   fails   throws failure_exception
template <class T>
T or_throw(result<T>&& outcome) {
    if (!outcome) throw failure_exception{std::move(outcome).error()};
    if constexpr (!std::is_void_v<T>) return *std::move(outcome);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
