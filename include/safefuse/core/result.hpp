// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: how calls fail. Every call that can fail returns result<T>. A failure says what went
// wrong, where, and by how much.
#ifndef SAFEFUSE_CORE_RESULT_HPP
#define SAFEFUSE_CORE_RESULT_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/config.hpp>
#include <safefuse/core/printable.hpp>
#include <safefuse/core/text.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// What went wrong. `sentence(errc)` has one plain line for each, `name(errc)` one word.
enum class errc : std::uint8_t {
    // files and memory
    out_of_memory,
    file_not_found,
    permission_denied,
    not_a_file,
    not_a_directory,
    already_exists,
    io_error,
    file_changed,
    read_past_end,
    // the header of a tensor file
    another_format,
    header_too_short,
    header_too_large,
    header_past_end,
    header_not_utf8,
    header_not_json,
    header_bad_entry,
    unknown_dtype,
    duplicate_tensor,
    bad_offsets,
    size_overflow,
    partial_byte,
    size_mismatch,
    data_truncated,
    trailing_bytes,
    // tensors and slices
    tensor_not_found,
    out_of_range,
    too_many_indices,
    slice_cuts_byte,
    wrong_dtype,
    misaligned,
    byte_order,
    wrong_buffer_size,
    not_resident,
    // shard indexes and checkpoints
    bad_json,
    bad_index,
    no_checkpoint,
    several_indexes,
    path_leaves_directory,
    missing_shard,
    incomplete_series,
    tensor_not_in_shard,
    tensor_in_two_shards,
    // experts
    no_experts,
    unknown_family,
    ambiguous_family,
    missing_expert,
    missing_key,
    duplicate_expert,
    shape_mismatch,
    dtype_mismatch,
    both_layouts,
    unexpected_key,
    unknown_experts,
    missing_scales,
    splits_block,
    unnested_groups,
    unexpected_extent,
    parts_differ,
    output_not_found,
    // comparing
    unexpected_tensor,
    bytes_differ,
    // writing
    bad_name,
    destination_not_empty,
    destination_in_source,
    another_rewrite,
    in_use,
    disk_full,
    canceled,
    // devices
    device_failed,
    // forms of a field
    ambiguous_form,
};

/// One plain sentence for a code, without the details of a particular failure.
[[nodiscard]] constexpr std::string_view sentence(errc code) noexcept {
    switch (code) {
    case errc::out_of_memory: return "not enough memory";
    case errc::file_not_found: return "no such file or directory";
    case errc::permission_denied: return "permission denied";
    case errc::not_a_file: return "not a regular file";
    case errc::not_a_directory: return "not a directory";
    case errc::already_exists: return "already exists";
    case errc::io_error: return "reading or writing failed";
    case errc::file_changed: return "the file changed while it was open";
    case errc::read_past_end: return "a read goes past the end";
    case errc::another_format: return "the file has a different format than its name says";
    case errc::header_too_short:
        return "too short to be a safetensors file (8 bytes of header length are missing)";
    case errc::header_too_large: return "the header is larger than the limit";
    case errc::header_past_end:
        return "the header is longer than the file: incomplete download, or not a "
               "safetensors file?";
    case errc::header_not_utf8: return "the header is not valid UTF-8";
    case errc::header_not_json: return "the header is not valid JSON";
    case errc::header_bad_entry: return "a header entry is malformed";
    case errc::unknown_dtype: return "unknown dtype";
    case errc::duplicate_tensor: return "two tensors have the same name";
    case errc::bad_offsets:
        return "the tensor's bytes do not begin where the previous tensor's end";
    case errc::size_overflow: return "the tensor's size overflows 64 bits";
    case errc::partial_byte: return "the tensor's size is not a whole number of bytes";
    case errc::size_mismatch: return "the tensor's byte range does not fit its dtype and shape";
    case errc::data_truncated:
        return "the file is shorter than its header says: incomplete download?";
    case errc::trailing_bytes: return "the file is longer than its header says";
    case errc::tensor_not_found: return "no tensor of that name";
    case errc::out_of_range: return "out of range";
    case errc::too_many_indices: return "more indices than the tensor has axes";
    case errc::slice_cuts_byte: return "the slice begins or ends inside a byte";
    case errc::wrong_dtype: return "the tensor has another dtype";
    case errc::misaligned: return "the bytes are not aligned for that type";
    case errc::byte_order: return "this machine's byte order differs from the file's";
    case errc::wrong_buffer_size: return "the buffer does not have the size of the tensor";
    case errc::not_resident: return "the bytes are not in memory";
    case errc::bad_json: return "not valid JSON";
    case errc::bad_index: return "the shard index is malformed";
    case errc::no_checkpoint: return "no checkpoint found";
    case errc::several_indexes: return "more than one shard index";
    case errc::path_leaves_directory: return "the shard index names a file outside its directory";
    case errc::missing_shard: return "a shard that the index names is missing";
    case errc::incomplete_series: return "the numbered series of shards is incomplete";
    case errc::tensor_not_in_shard: return "the shard lacks a tensor that the index says it holds";
    case errc::tensor_in_two_shards: return "two shards hold a tensor of the same name";
    case errc::no_experts: return "no experts of this layout found";
    case errc::unknown_family: return "unknown model family";
    case errc::ambiguous_family: return "more than one model family fits";
    case errc::missing_expert: return "an expert is missing";
    case errc::missing_key: return "a part of an expert is missing";
    case errc::duplicate_expert: return "a part of an expert exists twice";
    case errc::shape_mismatch: return "the shape does not fit";
    case errc::dtype_mismatch: return "the dtype does not fit";
    case errc::both_layouts: return "the experts are stored both fused and one by one";
    case errc::unexpected_key: return "a tensor among the experts belongs to no known part";
    case errc::unknown_experts: return "it looks like an expert's tensor but fits no known form";
    case errc::missing_scales: return "quantised codes without their scales";
    case errc::splits_block: return "a packed or block-scaled group of elements would be cut";
    case errc::unnested_groups: return "the interleave groups of the two layouts do not nest";
    case errc::unexpected_extent: return "an extent differs from the given value";
    case errc::parts_differ: return "parts that the layout stores once differ";
    case errc::output_not_found: return "the plan has no output of that name";
    case errc::unexpected_tensor: return "a tensor that should not be there";
    case errc::bytes_differ: return "the bytes differ";
    case errc::bad_name: return "that name cannot be written";
    case errc::destination_not_empty: return "the destination is not empty";
    case errc::destination_in_source: return "the destination and the source overlap";
    case errc::another_rewrite:
        return "the destination has an unfinished rewrite of something else";
    case errc::in_use: return "another process is writing there";
    case errc::disk_full: return "no space left on the disk";
    case errc::canceled: return "canceled";
    case errc::device_failed: return "a device failed";
    case errc::ambiguous_form: return "the shapes fit two forms that move different bytes";
    }
    return "unknown failure";
}

/// The name of a code, as it is spelled here: "tensor_not_in_shard". For logs, metrics and other
/// languages; no two codes have the same name, and a name does not change.
[[nodiscard]] constexpr std::string_view name(errc code) noexcept {
    switch (code) {
    case errc::out_of_memory: return "out_of_memory";
    case errc::file_not_found: return "file_not_found";
    case errc::permission_denied: return "permission_denied";
    case errc::not_a_file: return "not_a_file";
    case errc::not_a_directory: return "not_a_directory";
    case errc::already_exists: return "already_exists";
    case errc::io_error: return "io_error";
    case errc::file_changed: return "file_changed";
    case errc::read_past_end: return "read_past_end";
    case errc::another_format: return "another_format";
    case errc::header_too_short: return "header_too_short";
    case errc::header_too_large: return "header_too_large";
    case errc::header_past_end: return "header_past_end";
    case errc::header_not_utf8: return "header_not_utf8";
    case errc::header_not_json: return "header_not_json";
    case errc::header_bad_entry: return "header_bad_entry";
    case errc::unknown_dtype: return "unknown_dtype";
    case errc::duplicate_tensor: return "duplicate_tensor";
    case errc::bad_offsets: return "bad_offsets";
    case errc::size_overflow: return "size_overflow";
    case errc::partial_byte: return "partial_byte";
    case errc::size_mismatch: return "size_mismatch";
    case errc::data_truncated: return "data_truncated";
    case errc::trailing_bytes: return "trailing_bytes";
    case errc::tensor_not_found: return "tensor_not_found";
    case errc::out_of_range: return "out_of_range";
    case errc::too_many_indices: return "too_many_indices";
    case errc::slice_cuts_byte: return "slice_cuts_byte";
    case errc::wrong_dtype: return "wrong_dtype";
    case errc::misaligned: return "misaligned";
    case errc::byte_order: return "byte_order";
    case errc::wrong_buffer_size: return "wrong_buffer_size";
    case errc::not_resident: return "not_resident";
    case errc::bad_json: return "bad_json";
    case errc::bad_index: return "bad_index";
    case errc::no_checkpoint: return "no_checkpoint";
    case errc::several_indexes: return "several_indexes";
    case errc::path_leaves_directory: return "path_leaves_directory";
    case errc::missing_shard: return "missing_shard";
    case errc::incomplete_series: return "incomplete_series";
    case errc::tensor_not_in_shard: return "tensor_not_in_shard";
    case errc::tensor_in_two_shards: return "tensor_in_two_shards";
    case errc::no_experts: return "no_experts";
    case errc::unknown_family: return "unknown_family";
    case errc::ambiguous_family: return "ambiguous_family";
    case errc::ambiguous_form: return "ambiguous_form";
    case errc::missing_expert: return "missing_expert";
    case errc::missing_key: return "missing_key";
    case errc::duplicate_expert: return "duplicate_expert";
    case errc::shape_mismatch: return "shape_mismatch";
    case errc::dtype_mismatch: return "dtype_mismatch";
    case errc::both_layouts: return "both_layouts";
    case errc::unexpected_key: return "unexpected_key";
    case errc::unknown_experts: return "unknown_experts";
    case errc::missing_scales: return "missing_scales";
    case errc::splits_block: return "splits_block";
    case errc::unnested_groups: return "unnested_groups";
    case errc::unexpected_extent: return "unexpected_extent";
    case errc::parts_differ: return "parts_differ";
    case errc::output_not_found: return "output_not_found";
    case errc::unexpected_tensor: return "unexpected_tensor";
    case errc::bytes_differ: return "bytes_differ";
    case errc::bad_name: return "bad_name";
    case errc::destination_not_empty: return "destination_not_empty";
    case errc::destination_in_source: return "destination_in_source";
    case errc::another_rewrite: return "another_rewrite";
    case errc::in_use: return "in_use";
    case errc::disk_full: return "disk_full";
    case errc::canceled: return "canceled";
    case errc::device_failed: return "device_failed";
    }
    return "unknown";
}

/// The stand-in for a number that a failure does not have.
inline constexpr std::uint64_t unknown = ~std::uint64_t{0};

/// What went wrong, where, and by how much. Members that do not apply are empty or `unknown`.
struct failure {
    errc code{};                       ///< what went wrong
    text file{};                       ///< path of the file or directory
    text tensor{};                     ///< full name of the tensor
    text scope{};                      ///< experts module, such as model.layers.3.mlp.experts
    text detail{};                     ///< what `sentence(code)` does not say
    std::uint64_t expert = unknown;    ///< index of the expert in its scope
    std::uint64_t axis = unknown;      ///< axis of the tensor, 0 is the outermost
    std::uint64_t offset = unknown;    ///< byte in the file
    std::uint64_t expected = unknown;  ///< the expected value: bytes, or a count
    std::uint64_t actual = unknown;    ///< the value found
    int os_error = 0;                  ///< errno or GetLastError()

    /// One sentence with everything that is known about the failure. It is safe to print on a
    /// terminal: see append_printable.
    [[nodiscard]] text message() const noexcept {
        text out;
        if (!file.empty()) {
            append_printable(out, file);
            out.append(": ");
        }
        if (!tensor.empty()) {
            out.append("tensor \"");
            append_printable(out, tensor);
            out.append("\": ");
        } else if (!scope.empty()) {
            out.append("experts \"");
            append_printable(out, scope);
            out.append("\": ");
        }
        // of an axis the detail is a whole sentence, with the numbers in it
        if (axis != unknown && !detail.empty()) {
            append_printable(out, detail);
            return out;
        }
        out.append(sentence(code));
        if (!detail.empty()) {
            out.append(" (");
            append_printable(out, detail);
            out.append(")");
        }
        append_numbers(out);
        if (os_error != 0) {
            out.append(", system error ");
            out.append_number(static_cast<std::uint64_t>(os_error));
        }
        return out;
    }

private:
    void append_numbers(text& out) const noexcept {
        const auto number = [&](const char* label, std::uint64_t value) noexcept {
            if (value == unknown) return;
            out.append(label);
            out.append_count(value);
        };
        number(", expert ", expert);
        number(", axis ", axis);
        number(", at byte ", offset);
        if (offset != unknown && code == errc::bytes_differ) out.append(" of the tensor");
        if (offset != unknown && !file.empty() &&
            (code <= errc::trailing_bytes || code == errc::bad_json || code == errc::bad_index))
            out.append(" of the file");
        number(", expected ", expected);
        number(", found ", actual);
        if (expected != unknown && actual != unknown &&
            (code == errc::data_truncated || code == errc::trailing_bytes)) {
            out.append(": ");
            out.append_count(code == errc::data_truncated ? expected - actual : actual - expected);
            out.append(code == errc::data_truncated ? " bytes short" : " bytes too many");
        }
    }
};

template <class T>
class result;

namespace detail {

// A failure is large. These functions keep one copy of its construction and destruction, not one in
// every function that can fail.
SAFEFUSE_COLD inline void make_failure(failure* at, failure&& from) noexcept {
    new (at) failure{std::move(from)};
}
SAFEFUSE_COLD inline void make_failure(failure* at, const failure& from) noexcept {
    new (at) failure{from};
}
SAFEFUSE_COLD inline void end_failure(failure& error) noexcept { error.~failure(); }

/// A failure without details that becomes any result. The most frequent failure: where it is
/// returned, it needs only a call.
struct lack_of_memory {
    SAFEFUSE_COLD static void make(failure* at, const lack_of_memory&) noexcept {
        new (at) failure{.code = errc::out_of_memory};
    }
    operator failure() const noexcept { return {.code = errc::out_of_memory}; }
    template <class T>
    operator result<T>() const noexcept {
        return {*this, 0};
    }
};
/// As lack_of_memory, for a file. The characters of its path must exist until the conversion.
struct lack_of_memory_for {
    std::string_view file;

    SAFEFUSE_COLD static void make(failure* at, const lack_of_memory_for& why) noexcept {
        new (at) failure{.code = errc::out_of_memory, .file = why.file};
    }
    operator failure() const noexcept { return {.code = errc::out_of_memory, .file = file}; }
    template <class T>
    operator result<T>() const noexcept {
        return {*this, 0};
    }
};

}  // namespace detail

/// A type that lends views of memory it owns declares `static constexpr bool lends_views = true`.
/// Then `make()->view()` does not compile, because the owner is destroyed before the view is used.
template <class T>
concept lends_views = requires { requires T::lends_views; };

/// A T, or the failure that prevented it. The names are those of std::expected. A result can be
/// moved, not copied. `value()` on a failure stops the program with a trap in every build mode;
/// `operator*` on a failure is undefined.
template <class T>
class SAFEFUSE_NODISCARD result {
public:
    /// The name that std::expected uses.
    using value_type = T;

    /// @{
    /// Success: a value converts.
    result(T&& value) noexcept : has_value_{true}, value_(static_cast<T&&>(value)) {}
    result(const T& value) noexcept
        requires(__is_constructible(T, const T&))
        : has_value_{true}, value_(value) {}
    /// @}
    /// @{
    /// Failure: a failure converts. `return failure{...}` and `return std::move(other).error()`
    /// both compile.
    result(failure&& error) noexcept : has_value_{false} {  // NOLINT
        detail::make_failure(&error_, static_cast<failure&&>(error));
    }
    result(const failure& error) noexcept : has_value_{false} {
        detail::make_failure(&error_, error);
    }
    /// @}
    /// Takes what `other` contains. The value or failure of `other` is then moved from.
    result(result&& other) noexcept : has_value_{other.has_value_} {
        if (has_value_)
            new (&value_) T(static_cast<T&&>(other.value_));
        else
            detail::make_failure(&error_, static_cast<failure&&>(other.error_));
    }
    /// Destroys the current content and takes what `other` contains.
    result& operator=(result&& other) noexcept {
        result taken{static_cast<result&&>(other)};  // `other` may be a member of what is destroyed
        this->~result();
        new (this) result{static_cast<result&&>(taken)};
        return *this;
    }
    ~result() {
        if (has_value_)
            value_.~T();
        else
            detail::end_failure(error_);
    }

    /// @{
    /// Whether this is a value and not a failure.
    [[nodiscard]] bool has_value() const noexcept { return has_value_; }
    explicit operator bool() const noexcept { return has_value_; }
    /// @}

    /// @{
    /// The value. Undefined on a failure.
    ///   lifetime  ends with the result
    [[nodiscard]] T& operator*() & noexcept SAFEFUSE_LIFETIMEBOUND { return value_; }
    [[nodiscard]] const T& operator*() const& noexcept SAFEFUSE_LIFETIMEBOUND { return value_; }
    [[nodiscard]] T&& operator*() && noexcept SAFEFUSE_LIFETIMEBOUND {
        return static_cast<T&&>(value_);
    }
    [[nodiscard]] T* operator->() & noexcept SAFEFUSE_LIFETIMEBOUND { return &value_; }
    [[nodiscard]] const T* operator->() const& noexcept SAFEFUSE_LIFETIMEBOUND { return &value_; }
    [[nodiscard]] T* operator->() && noexcept SAFEFUSE_LIFETIMEBOUND { return &value_; }
    /// @}
    T* operator->() &&
        requires lends_views<T>
    = delete;

    /// @{
    /// The value. Stops the program on a failure.
    ///   lifetime  ends with the result; called on an rvalue, the value is moved out
    [[nodiscard]] T& value() & noexcept SAFEFUSE_LIFETIMEBOUND { return check(), value_; }
    [[nodiscard]] const T& value() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return check(), value_;
    }
    [[nodiscard]] T value() && noexcept { return check(), static_cast<T&&>(value_); }
    /// @}
    /// @{
    /// The value, or `otherwise` on a failure.
    template <class U>
    [[nodiscard]] T value_or(U&& otherwise) const& {
        return has_value_ ? value_ : static_cast<T>(std::forward<U>(otherwise));
    }
    template <class U>
    [[nodiscard]] T value_or(U&& otherwise) && {
        return has_value_ ? std::move(value_) : static_cast<T>(std::forward<U>(otherwise));
    }
    /// @}

    /// @{
    /// The failure. Undefined if there is a value.
    ///   lifetime  ends with the result
    [[nodiscard]] failure& error() & noexcept SAFEFUSE_LIFETIMEBOUND { return error_; }
    [[nodiscard]] const failure& error() const& noexcept SAFEFUSE_LIFETIMEBOUND { return error_; }
    [[nodiscard]] failure&& error() && noexcept SAFEFUSE_LIFETIMEBOUND {
        return static_cast<failure&&>(error_);
    }
    /// @}

    /// Calls f(value), which returns a result; a failure is passed on.
    template <class F>
    auto and_then(F&& f) && -> decltype(std::forward<F>(f)(std::declval<T&&>())) {
        if (has_value_) return std::forward<F>(f)(std::move(value_));
        return std::move(error_);
    }
    /// Calls f(value) and wraps what it returns in a result; a failure is passed on.
    template <class F>
    auto transform(F&& f) && -> result<decltype(std::forward<F>(f)(std::declval<T&&>()))> {
        if (has_value_) return std::forward<F>(f)(std::move(value_));
        return std::move(error_);
    }

private:
    friend struct detail::lack_of_memory;
    friend struct detail::lack_of_memory_for;
    template <class Lack>
    result(const Lack& why, int) noexcept : has_value_{false} {
        Lack::make(&error_, why);
    }

    void check() const noexcept {
        if (!has_value_) {
#if defined(_MSC_VER) && !defined(__clang__)
            __fastfail(7);
#else
            __builtin_trap();
#endif
        }
    }

    bool has_value_;
    union {
        T value_;
        failure error_;
    };
};

/// Success without a value, or the failure that prevented it.
template <>
class SAFEFUSE_NODISCARD result<void> {
public:
    /// The name that std::expected uses.
    using value_type = void;

    /// Success.
    result() noexcept : has_value_{true} {}
    /// @{
    /// Failure: a failure converts.
    result(failure&& error) noexcept : has_value_{false} {  // NOLINT
        detail::make_failure(&error_, std::move(error));
    }
    result(const failure& error) noexcept : has_value_{false} {
        detail::make_failure(&error_, error);
    }
    /// @}
    /// Takes what `other` contains. The failure of `other` is then moved from.
    result(result&& other) noexcept : has_value_{other.has_value_} {
        if (!has_value_) detail::make_failure(&error_, std::move(other.error_));
    }
    /// Destroys the current content and takes what `other` contains.
    result& operator=(result&& other) noexcept {
        result taken{std::move(other)};  // `other` may be a member of what is destroyed
        this->~result();
        new (this) result{std::move(taken)};
        return *this;
    }
    ~result() {
        if (!has_value_) detail::end_failure(error_);
    }

    /// @{
    /// Whether the call succeeded.
    [[nodiscard]] bool has_value() const noexcept { return has_value_; }
    explicit operator bool() const noexcept { return has_value_; }
    /// @}
    /// @{
    /// The failure. Undefined on success.
    ///   lifetime  ends with the result
    [[nodiscard]] failure& error() & noexcept SAFEFUSE_LIFETIMEBOUND { return error_; }
    [[nodiscard]] const failure& error() const& noexcept SAFEFUSE_LIFETIMEBOUND { return error_; }
    [[nodiscard]] failure&& error() && noexcept SAFEFUSE_LIFETIMEBOUND { return std::move(error_); }
    /// @}

    /// Calls f(), which returns a result; a failure is passed on.
    template <class F>
    auto and_then(F&& f) && -> decltype(std::forward<F>(f)()) {
        if (has_value_) return std::forward<F>(f)();
        return std::move(error_);
    }

private:
    friend struct detail::lack_of_memory;
    friend struct detail::lack_of_memory_for;
    template <class Lack>
    result(const Lack& why, int) noexcept : has_value_{false} {
        Lack::make(&error_, why);
    }

    bool has_value_;
    union {
        failure error_;
    };
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
