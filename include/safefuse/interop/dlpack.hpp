// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: exchanges tensors with NumPy, PyTorch, MLX, JAX and others through DLPack, without
// copies. This header is opt-in: no other header includes it. It declares the DLPack ABI itself. If
// you include the real <dlpack/dlpack.h>, use its types in the same calls:
// lend<DLManagedTensorVersioned>(...).
//
//   managed_tensor (in capsules named "dltensor"), 64 bytes:
//     dl_tensor 0, manager_ctx 48, deleter 56
//   managed_tensor_versioned (in capsules named "dltensor_versioned"), 80 bytes:
//     version 0, manager_ctx 8, deleter 16, flags 24, dl_tensor 32
//   source  dlpack.h 1.3 as shipped by PyTorch 2.13; tests/interop/frameworks/torch.cpp compares it
//           with the structs here. tests/unit/interop/dlpack.test.cpp compares the first struct
//           with Debian's dlpack.h 0.6
#ifndef SAFEFUSE_INTEROP_DLPACK_HPP
#define SAFEFUSE_INTEROP_DLPACK_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace dlpack {

/// DLPackVersion.
struct version {
    std::uint32_t major;  ///< a different major version has a different struct layout
    std::uint32_t minor;  ///< a higher minor version has more codes
};

/// DLDevice.
struct device {
    std::int32_t device_type;  ///< DLDeviceType; 1 is the CPU
    std::int32_t device_id;    ///< index of the device
};

/// DLDataType: a type code, the bits of an element, and the number of lanes in an element.
struct data_type {
    std::uint8_t code;    ///< DLDataTypeCode
    std::uint8_t bits;    ///< bits of one lane
    std::uint16_t lanes;  ///< 1, except for packed and vector types

    /// Equal in every member.
    friend constexpr bool operator==(const data_type&, const data_type&) noexcept = default;
};

/// DLTensor. Strides count elements.
struct tensor {
    /// start of the allocation; may be null if there are no elements
    void* data;
    dlpack::device device;      ///< device of the memory
    std::int32_t ndim;          ///< number of extents and strides
    data_type dtype;            ///< type of every element
    std::int64_t* shape;        ///< outermost first
    std::int64_t* strides;      ///< in elements; null: row-major without gaps
    std::uint64_t byte_offset;  ///< offset in bytes from data to the first element
};

/// DLManagedTensor, the form before DLPack 1.0. It cannot express that a tensor is read-only.
struct managed_tensor {
    tensor dl_tensor;                  ///< the tensor
    void* manager_ctx;                 ///< private data of the owner
    void (*deleter)(managed_tensor*);  ///< called once by the consumer; may be null
};

/// DLManagedTensorVersioned.
struct managed_tensor_versioned {
    dlpack::version version;  ///< to be read before all other members
    void* manager_ctx;        ///< private data of the owner
    /// called once by the consumer; may be null
    void (*deleter)(managed_tensor_versioned*);
    std::uint64_t flags;  ///< bit 0: read-only
    tensor dl_tensor;     ///< the tensor
};

static_assert(sizeof(void*) != 8 || (sizeof(tensor) == 48 && sizeof(managed_tensor) == 64 &&
                                     sizeof(managed_tensor_versioned) == 80));

/// The version that lend() stores: 1.1 added the last type codes in use here. Strides are always
/// set, as 1.2 requires.
inline constexpr version lent_version{1, 1};
/// Flags of a versioned tensor.
inline constexpr std::uint64_t read_only_flag = 1, padded_flag = 4;

/// One of the two managed forms, from this header or from the real one.
template <class T>
concept managed_form = requires(T& managed) {
    managed.dl_tensor.byte_offset;
    managed.manager_ctx;
    managed.deleter(&managed);
};
/// The managed form with a version and flags.
template <class T>
concept versioned_form = managed_form<T> && requires(T& managed) {
    managed.version.major;
    managed.flags;
};

}  // namespace dlpack

namespace detail {

// Code and bits of each dtype, in the order of dtype. Codes from 7 on were added by DLPack 1.1, the
// code of bool by 0.8.
inline constexpr dlpack::data_type dlpack_types[dtype_count] = {
    {6, 8, 1},  {17, 4, 2}, {15, 6, 1}, {16, 6, 1}, {1, 8, 1},  {0, 8, 1},  {12, 8, 1}, {10, 8, 1},
    {14, 8, 1}, {11, 8, 1}, {13, 8, 1}, {0, 16, 1}, {1, 16, 1}, {2, 16, 1}, {4, 16, 1}, {0, 32, 1},
    {1, 32, 1}, {2, 32, 1}, {5, 64, 1}, {2, 64, 1}, {0, 64, 1}, {1, 64, 1},
};

}  // namespace detail

namespace dlpack {

/// The DLPack type of a dtype; every dtype has one. F4 is a type of two lanes, as in PyTorch, so
/// the last extent is halved.
[[nodiscard]] constexpr data_type type_of(dtype type) noexcept {
    return detail::dlpack_types[static_cast<std::size_t>(type)];
}

/// Stores the dtype of a DLPack type. Returns false if there is none. F4 is accepted with one lane
/// or two.
[[nodiscard]] constexpr bool parse_type(data_type spelled, dtype& type) noexcept {
    if (spelled == data_type{17, 4, 1}) spelled.lanes = 2;
    for (std::size_t i = 0; i < dtype_count; ++i) {
        if (detail::dlpack_types[i] != spelled) continue;
        type = static_cast<dtype>(i);
        return true;
    }
    return false;
}

/// Owns a managed tensor; the destructor calls its deleter. Empty after release().
template <managed_form Managed>
class handle {
public:
    handle() noexcept = default;
    /// Takes ownership of a managed tensor, for example from a capsule.
    explicit handle(Managed* taken) noexcept : managed_{taken} {}
    /// Leaves the other handle empty.
    handle(handle&& other) noexcept : managed_{other.release()} {}
    /// Releases the current tensor and leaves the other handle empty.
    handle& operator=(handle&& other) noexcept {
        handle gone{std::exchange(managed_, other.release())};
        return *this;
    }
    ~handle() {
        if (managed_ != nullptr && managed_->deleter != nullptr) managed_->deleter(managed_);
    }

    /// Whether the handle owns a tensor.
    [[nodiscard]] explicit operator bool() const noexcept { return managed_ != nullptr; }
    /// @{
    /// The managed tensor, or null.
    [[nodiscard]] Managed* get() const noexcept SAFEFUSE_LIFETIMEBOUND { return managed_; }
    [[nodiscard]] Managed& operator*() const noexcept SAFEFUSE_LIFETIMEBOUND { return *managed_; }
    [[nodiscard]] Managed* operator->() const noexcept SAFEFUSE_LIFETIMEBOUND { return managed_; }
    /// @}
    /// Gives up ownership, for example to a capsule. The new owner must call the deleter.
    [[nodiscard]] Managed* release() noexcept { return std::exchange(managed_, nullptr); }

private:
    Managed* managed_ = nullptr;
};

/// Options for lending a tensor.
struct lend_options {
    /// If false, the tensor is flagged as read-only. NumPy obeys the flag; PyTorch does not, and
    /// writing to a mapped file then ends the program.
    bool is_writable = false;
    /// alignment of the first element; 0 means that of its type. Few consumers need the 256 of the
    /// specification
    std::size_t alignment_bytes = 0;
    /// The device of the memory: a DLDeviceType (1 CPU, 2 CUDA, 10 ROCm) and the index of the
    /// device. The view's bytes are then addresses of that device; lending does not read them.
    dlpack::device device{1, 0};
};

}  // namespace dlpack

namespace detail {

// One block of memory: this struct, then shape and strides.
template <class Managed, class Owner>
struct lent_tensor {
    Managed managed;
    Owner owner;

    static void free(Managed* managed) noexcept {
        auto* const self = static_cast<lent_tensor*>(managed->manager_ctx);
        self->~lent_tensor();
        std::free(self);
    }
};

constexpr std::uint64_t alignment_of(dtype type) noexcept {
    return type == dtype::c64 ? 4 : bits(type) < 8 ? 1 : bits(type) / 8;
}

/// Where the extents are in a block: after the owner.
template <class Block>
inline constexpr std::size_t extents_offset = (sizeof(Block) + 7) / 8 * 8;

/// Memory for a block and for the extents and strides of a tensor of that rank.
///   fails   out_of_memory
template <class Block>
[[nodiscard]] result<void*> block_memory(std::size_t rank) noexcept {
    std::uint64_t size_bytes = 0;
    if (!checked_mul(rank, 2 * sizeof(std::int64_t), size_bytes) ||
        !checked_add(size_bytes, extents_offset<Block>, size_bytes) || !fits_memory(size_bytes))
        return failure{.code = errc::out_of_memory};
    void* const memory = std::malloc(static_cast<std::size_t>(size_bytes));
    if (memory == nullptr) return failure{.code = errc::out_of_memory, .expected = size_bytes};
    return memory;
}

/// Stores extents and strides as DLPack counts them: in elements of the type that it says.
inline void fill_extents(shape_view extents, std::uint16_t lanes, std::int64_t* shape,
                         std::int64_t* strides) noexcept {
    const std::size_t rank = extents.size();
    std::uint64_t stride = 1;
    for (std::size_t axis = rank; axis-- != 0;) {
        const std::uint64_t extent = extents[axis] / (axis + 1 == rank ? lanes : 1);
        shape[axis] = static_cast<std::int64_t>(extent);
        strides[axis] = static_cast<std::int64_t>(stride);
        // of a tensor without elements it may wrap around: nobody follows it
        stride *= extent == 0 ? 1 : extent;
    }
}

/// Whether DLPack can describe a tensor.
///   fails   as lend
[[nodiscard]] inline result<void> check_lendable(const tensor_view& view,
                                                 const dlpack::lend_options& options) noexcept {
    const dlpack::data_type type = dlpack::type_of(view.type());
    const std::size_t rank = view.rank();
    if (std::endian::native != std::endian::little && type.bits > 8)
        return failure{.code = errc::byte_order};
    const std::uint64_t alignment =
        options.alignment_bytes != 0 ? options.alignment_bytes : alignment_of(view.type());
    const auto address = reinterpret_cast<std::uintptr_t>(view.bytes().data());
    if (!view.bytes().empty() && address % alignment != 0)
        return failure{.code = errc::misaligned, .expected = alignment};
    if (rank > INT32_MAX) return failure{.code = errc::size_overflow, .actual = rank};
    if (type.lanes == 2 && (rank == 0 || view.shape()[rank - 1] % 2 != 0))
        return failure{
            .code = errc::splits_block, .detail = "the last extent of F4 is odd", .expected = 2};
    for (const std::uint64_t extent : view.shape())
        if (extent > INT64_MAX) return failure{.code = errc::size_overflow, .actual = extent};
    return {};
}

}  // namespace detail

namespace dlpack {

/// Lends a tensor to other frameworks without a copy. `owner` is moved into the managed tensor and
/// destroyed when the last consumer releases it. To lend many tensors of one checkpoint, pass
/// std::shared_ptr{shared} as the owner of each.
///   lifetime  `owner` must own the bytes, and moving it must not move them; checkpoint, vector and
///             shared_ptr satisfy this
///   units     strides count elements; byte_offset is 0; data is null if there are no elements
///   fails     misaligned, byte_order (big-endian host), size_overflow (an extent above 63 bits),
///             splits_block (F4 with an odd last extent), wrong_buffer_size (the view is a default
///             tensor_view{}), out_of_memory; `owner` is then unchanged
template <managed_form Managed = managed_tensor_versioned, class Owner>
[[nodiscard]] result<handle<Managed>> lend(const tensor_view& view, Owner&& owner,
                                           const lend_options& options = {}) noexcept {
    static_assert(
        !std::is_lvalue_reference_v<Owner> && !std::is_const_v<Owner>,
        "the owner of the bytes is moved in, because a copy would own other bytes. Share it as "
        "std::shared_ptr{shared}");
    static_assert(!std::is_pointer_v<Owner>, "a pointer owns nothing");
    static_assert(
        std::is_nothrow_move_constructible_v<Owner> && std::is_nothrow_destructible_v<Owner>,
        "moving an owner must not throw");
    using block = detail::lent_tensor<Managed, Owner>;
    static_assert(alignof(block) <= alignof(std::max_align_t),
                  "the owner needs more alignment than malloc guarantees");

    // consumers read as many bytes as the shape says; a default-constructed view has fewer
    if (auto whole = tensor_view::of(view.type(), view.shape(), view.bytes()); !whole)
        return std::move(whole).error();
    if (auto fits = detail::check_lendable(view, options); !fits) return std::move(fits).error();
    const data_type type = type_of(view.type());
    const std::size_t rank = view.rank();
    auto memory = detail::block_memory<block>(rank);
    if (!memory) return std::move(memory).error();
    auto* const shape = reinterpret_cast<std::int64_t*>(static_cast<std::byte*>(*memory) +
                                                        detail::extents_offset<block>);
    std::int64_t* const strides = shape + rank;
    detail::fill_extents(view.shape(), type.lanes, shape, strides);
    void* const data = view.bytes().empty() ? nullptr : const_cast<std::byte*>(view.bytes().data());
    auto* const made =
        new (*memory) block{{}, std::move(owner)};  // last: the owner may contain view and shape
    auto& to = made->managed.dl_tensor;
    to.data = data;
    to.device.device_type =
        static_cast<decltype(to.device.device_type)>(options.device.device_type);
    to.device.device_id = options.device.device_id;
    to.ndim = static_cast<std::int32_t>(rank);
    to.dtype = {type.code, type.bits, type.lanes};
    to.shape = shape;
    to.strides = strides;
    made->managed.manager_ctx = made;
    made->managed.deleter = block::free;
    if constexpr (versioned_form<Managed>) {
        made->managed.version = {lent_version.major, lent_version.minor};
        made->managed.flags = options.is_writable ? 0 : read_only_flag;
    }
    return handle<Managed>{&made->managed};
}

/// A framework's tensor in this machine's memory, already checked. Use view() to put it into a
/// tensor_list; plans can also write to it.
///   lifetime  the framework owns the bytes; the shape is a copy
class borrowed_tensor {
public:
    /// Views of a temporary tensor do not compile.
    static constexpr bool lends_views = true;

    /// The dtype of every element.
    [[nodiscard]] dtype type() const noexcept { return type_; }
    /// The extents, outermost first.
    [[nodiscard]] shape_view shape() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return extents_.view();
    }
    /// All bytes.
    ///   lifetime  the lender owns them
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return bytes_; }
    /// Whether the lender forbids writing.
    [[nodiscard]] bool is_read_only() const noexcept { return is_read_only_; }
    /// The bytes for writing. Empty if the tensor is read-only, so that fusing into it fails with
    /// wrong_buffer_size.
    [[nodiscard]] span<std::byte> writable_bytes() const noexcept {
        return is_read_only_ ? span<std::byte>{} : bytes_;
    }
    /// The tensor as a view.
    ///   lifetime  until this object is destroyed
    [[nodiscard]] tensor_view view() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensor_view::of(type_, shape(), bytes_).value_or(tensor_view{});
    }
    tensor_view view() const&& = delete;

    /// Checks a DLTensor. `flags` are those of its managed_tensor_versioned; without flags the
    /// tensor is writable.
    ///   fails   as borrow
    template <class Tensor>
    static result<borrowed_tensor> of(const Tensor& from, std::uint64_t flags = 0) noexcept {
        const auto kind = static_cast<std::int64_t>(from.device.device_type);
        if (kind != 1 && kind != 3 && kind != 11)  // CPU, and CPU memory pinned by CUDA or ROCm
            return failure{.code = errc::not_resident,
                           .detail = "a device's memory",
                           .actual = static_cast<std::uint64_t>(kind)};
        borrowed_tensor made;
        const data_type type{from.dtype.code, from.dtype.bits, from.dtype.lanes};
        if (!parse_type(type, made.type_) || (bits(made.type_) < 8 && (flags & padded_flag) != 0))
            return unknown(type);
        if (std::endian::native != std::endian::little && bits(made.type_) > 8)
            return failure{.code = errc::byte_order};
        if (from.ndim < 0)
            return failure{.code = errc::out_of_range, .detail = "a negative number of axes"};
        const auto rank = static_cast<std::size_t>(from.ndim);
        if (rank != 0 && from.shape == nullptr)
            return failure{.code = errc::not_resident, .detail = "there is no shape"};
        if (!made.extents_.resize(rank)) return failure{.code = errc::out_of_memory};
        for (std::size_t axis = 0; axis < rank; ++axis) {
            if (from.shape[axis] < 0)
                return failure{.code = errc::out_of_range, .detail = "a negative extent"};
            made.extents_[axis] = static_cast<std::uint64_t>(from.shape[axis]);
        }
        if (type.lanes == 2) {
            if (rank == 0) return unknown(type);
            if (!detail::checked_mul(made.extents_[rank - 1], 2, made.extents_[rank - 1]))
                return failure{.code = errc::size_overflow};
        }
        std::uint64_t size_bytes = 0;
        if (auto fit = detail::check_size(made.type_, made.shape(), size_bytes); !fit)
            return std::move(fit).error();
        made.is_read_only_ = (flags & read_only_flag) != 0;
        if (size_bytes == 0) return made;
        if (auto compact = check_strides(from); !compact) return std::move(compact).error();
        std::uint64_t begin = 0, end = 0;
        if (from.data == nullptr)
            return failure{
                .code = errc::not_resident, .detail = "there is no data", .expected = size_bytes};
        if (!detail::checked_add(reinterpret_cast<std::uintptr_t>(from.data), from.byte_offset,
                                 begin) ||
            !detail::checked_add(begin, size_bytes, end) || end > UINTPTR_MAX ||
            !detail::fits_memory(size_bytes))
            return failure{
                .code = errc::size_overflow, .offset = from.byte_offset, .actual = size_bytes};
        made.bytes_ = {
            static_cast<std::byte*>(from.data) + static_cast<std::size_t>(from.byte_offset),
            static_cast<std::size_t>(size_bytes)};
        return made;
    }

private:
    borrowed_tensor() noexcept = default;

    [[nodiscard]] static failure unknown(data_type type) noexcept {
        text detail{"DLPack's code "};
        detail.append_number(type.code);
        detail.append(", bits ");
        detail.append_number(type.bits);
        detail.append(", lanes ");
        detail.append_number(type.lanes);
        return {.code = errc::unknown_dtype, .detail = std::move(detail)};
    }

    // If an extent is 1, its stride has no meaning.
    template <class Tensor>
    static result<void> check_strides(const Tensor& from) noexcept {
        if (from.strides == nullptr) return {};
        std::int64_t stride = 1;
        for (std::int32_t axis = from.ndim; axis-- != 0;) {
            if (from.shape[axis] != 1 && from.strides[axis] != stride)
                return failure{.code = errc::not_resident,
                               .detail = "the tensor is not compact and row-major"};
            stride *= from.shape[axis];  // not more than the number of elements
        }
        return {};
    }

    dtype type_{};
    bool is_read_only_ = false;
    vector<std::uint64_t> extents_;
    span<std::byte> bytes_;
};

/// A framework's tensor, used without a copy.
///   lifetime  the framework keeps ownership: keep the handle while you use the result
///   fails   out_of_range (another major version, negative numbers), not_resident (not in this
///           machine's memory, or not compact and row-major), unknown_dtype, byte_order (big-endian
///           host), size_overflow, partial_byte, out_of_memory
template <managed_form Managed>
[[nodiscard]] result<borrowed_tensor> borrow(
    const Managed& managed SAFEFUSE_LIFETIMEBOUND) noexcept {
    if constexpr (versioned_form<Managed>) {
        if (managed.version.major != lent_version.major)
            return failure{.code = errc::out_of_range,
                           .detail = "DLPack's major version",
                           .expected = lent_version.major,
                           .actual = managed.version.major};
        return borrowed_tensor::of(managed.dl_tensor, managed.flags);
    } else {
        return borrowed_tensor::of(managed.dl_tensor);
    }
}
template <managed_form Managed>
result<borrowed_tensor> borrow(const Managed&&) = delete;

}  // namespace dlpack

/// Lets plans write directly into a framework's tensor.
template <>
struct tensor_traits<dlpack::borrowed_tensor> {
    /// @{
    /// Members required by tensor_traits.
    static span<std::byte> bytes(dlpack::borrowed_tensor& tensor) noexcept {
        return tensor.writable_bytes();
    }
    static dtype type(const dlpack::borrowed_tensor& tensor) noexcept { return tensor.type(); }
    static shape_view shape(const dlpack::borrowed_tensor& tensor) noexcept {
        return tensor.shape();
    }
    /// @}
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
