#include <safefuse/interop/dlpack.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/support.hpp"

#if __has_include(<dlpack/dlpack.h>)
#include <dlpack/dlpack.h>
#define HAS_DLPACK_HEADER
#endif

#include <doctest/doctest.h>

namespace sf = safefuse;
namespace dlpack = sf::dlpack;

namespace {

using extents = std::vector<std::uint64_t>;
// DLPack elements are in host byte order; tensor files are little-endian
constexpr bool is_big_endian = std::endian::native != std::endian::little;
using legacy = dlpack::managed_tensor;
using versioned = dlpack::managed_tensor_versioned;

// Owns bytes and counts its destructions.
struct owner {
    owner(std::vector<std::byte> of, int& counter) : bytes{std::move(of)}, gone{&counter} {}
    owner(owner&& other) noexcept
        : bytes{std::move(other.bytes)}, gone{std::exchange(other.gone, nullptr)} {}
    ~owner() {
        if (gone != nullptr) ++*gone;
    }
    std::vector<std::byte> bytes;
    int* gone;
};

std::vector<std::byte> counting(std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
    return bytes;
}

std::uint64_t size_of(sf::dtype type, const extents& shape) {
    std::uint64_t size_bytes = 0;
    REQUIRE(sf::tensor_size(type, shape, size_bytes) == sf::size_verdict::fits);
    return size_bytes;
}

const std::vector<extents> shapes{{4},       {1}, {8},    {2, 4},    {3, 1, 4},
                                  {1, 1, 8}, {0}, {0, 4}, {3, 0, 8}, {2, 3, 4, 2, 4}};

}  // namespace

static_assert(offsetof(dlpack::tensor, ndim) == sizeof(void*) + 8);
static_assert(sizeof(void*) != 8 ||
              (offsetof(dlpack::tensor, dtype) == 20 && offsetof(dlpack::tensor, shape) == 24 &&
               offsetof(dlpack::tensor, strides) == 32 &&
               offsetof(dlpack::tensor, byte_offset) == 40));
static_assert(sizeof(void*) != 8 ||
              (offsetof(legacy, manager_ctx) == 48 && offsetof(legacy, deleter) == 56));
static_assert(sizeof(void*) != 8 ||
              (offsetof(versioned, manager_ctx) == 8 && offsetof(versioned, deleter) == 16 &&
               offsetof(versioned, flags) == 24 && offsetof(versioned, dl_tensor) == 32));

#ifdef HAS_DLPACK_HEADER
static_assert(sizeof(DLTensor) == sizeof(dlpack::tensor) &&
              alignof(DLTensor) == alignof(dlpack::tensor));
static_assert(sizeof(DLDataType) == sizeof(dlpack::data_type) &&
              offsetof(DLDataType, lanes) == offsetof(dlpack::data_type, lanes));
static_assert(offsetof(DLTensor, device) == offsetof(dlpack::tensor, device) &&
              offsetof(DLTensor, ndim) == offsetof(dlpack::tensor, ndim));
static_assert(offsetof(DLTensor, dtype) == offsetof(dlpack::tensor, dtype) &&
              offsetof(DLTensor, shape) == offsetof(dlpack::tensor, shape));
static_assert(offsetof(DLTensor, strides) == offsetof(dlpack::tensor, strides));
static_assert(offsetof(DLTensor, byte_offset) == offsetof(dlpack::tensor, byte_offset));
static_assert(sizeof(DLManagedTensor) == sizeof(legacy) &&
              offsetof(DLManagedTensor, deleter) == offsetof(legacy, deleter));
static_assert(offsetof(DLManagedTensor, manager_ctx) == offsetof(legacy, manager_ctx));

TEST_CASE("dlpack: the real header's types go through the same calls as ours" *
          doctest::skip(is_big_endian)) {
    int gone = 0;
    owner held{counting(24), gone};
    const extents shape{2, 3};
    const auto view = sf::tensor_view::of(sf::dtype::f32, shape, held.bytes);
    REQUIRE(view);
    {
        const dlpack::handle<DLManagedTensor> lent =
            std::move(dlpack::lend<DLManagedTensor>(*view, std::move(held))).value();
        CHECK(lent->dl_tensor.device.device_type == kDLCPU);
        CHECK(lent->dl_tensor.dtype.code == kDLFloat);
        const auto back = dlpack::borrow(*lent);
        REQUIRE(back);
        CHECK(back->bytes().data() == view->bytes().data());
        CHECK(gone == 0);
    }
    CHECK(gone == 1);
}
#endif

TEST_CASE("dlpack: each of the 22 dtypes has a type of its own, by name") {
    const std::map<std::string_view, dlpack::data_type> table{
        {"BOOL", {6, 8, 1}},         {"F4", {17, 4, 2}},          {"F6_E2M3", {15, 6, 1}},
        {"F6_E3M2", {16, 6, 1}},     {"U8", {1, 8, 1}},           {"I8", {0, 8, 1}},
        {"F8_E5M2", {12, 8, 1}},     {"F8_E4M3", {10, 8, 1}},     {"F8_E8M0", {14, 8, 1}},
        {"F8_E4M3FNUZ", {11, 8, 1}}, {"F8_E5M2FNUZ", {13, 8, 1}}, {"I16", {0, 16, 1}},
        {"U16", {1, 16, 1}},         {"F16", {2, 16, 1}},         {"BF16", {4, 16, 1}},
        {"I32", {0, 32, 1}},         {"U32", {1, 32, 1}},         {"F32", {2, 32, 1}},
        {"C64", {5, 64, 1}},         {"F64", {2, 64, 1}},         {"I64", {0, 64, 1}},
        {"U64", {1, 64, 1}},
    };
    REQUIRE(table.size() == sf::dtype_count);
    for (const auto& row : table) {
        const auto name = row.first;
        const auto expected = row.second;
        CAPTURE(name);
        sf::dtype type{}, back{};
        REQUIRE(sf::parse_dtype(name, type));
        CHECK(dlpack::type_of(type) == expected);
        REQUIRE(dlpack::parse_type(expected, back));
        CHECK(back == type);
    }
}

TEST_CASE("dlpack: every other type is refused") {
    std::size_t known = 0;
    for (unsigned code = 0; code < 256; ++code)
        for (unsigned bits = 0; bits < 256; ++bits)
            for (unsigned lanes = 0; lanes < 5; ++lanes) {
                sf::dtype type{};
                known += dlpack::parse_type(
                    {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits),
                     static_cast<std::uint16_t>(lanes)},
                    type);
            }
    CHECK(known == sf::dtype_count + 1);  // F4 with two lanes and with one
}

TEST_CASE_TEMPLATE(
    "dlpack: an exported and imported tensor is the same, for every dtype and many shapes", Managed,
    legacy, versioned) {
    for (std::size_t i = 0; i < sf::dtype_count; ++i)
        for (const extents& shape : shapes) {
            const auto type = static_cast<sf::dtype>(i);
            const bool is_pair = type == sf::dtype::f4;
            if ((is_pair && shape.back() % 2 != 0) || (sf::bits(type) == 6 && shape == extents{1}))
                continue;
            CAPTURE(sf::name(type));
            int gone = 0;
            owner held{counting(static_cast<std::size_t>(size_of(type, shape))), gone};
            const auto view = sf::tensor_view::of(type, shape, held.bytes);
            REQUIRE(view);
            auto lent = dlpack::lend<Managed>(*view, std::move(held));
            if (is_big_endian && sf::bits(type) > 8) {
                REQUIRE_FALSE(lent);
                CHECK(lent.error().code == sf::errc::byte_order);
                continue;
            }
            REQUIRE(lent);
            const auto& tensor = (*lent)->dl_tensor;
            CHECK(tensor.data == (view->size_bytes() == 0 ? nullptr : view->bytes().data()));
            CHECK(tensor.byte_offset == 0);
            CHECK(tensor.device.device_type == 1);
            CHECK(tensor.device.device_id == 0);
            REQUIRE(tensor.ndim == static_cast<int>(shape.size()));
            for (std::size_t axis = 0; axis < shape.size(); ++axis)
                CHECK(tensor.shape[axis] ==
                      static_cast<std::int64_t>(shape[axis] /
                                                (is_pair && axis + 1 == shape.size() ? 2 : 1)));
            CHECK(tensor.strides[shape.size() - 1] == 1);
            const auto back = dlpack::borrow(**lent);
            REQUIRE(back);
            CHECK(back->type() == type);
            CHECK(extents(back->shape().begin(), back->shape().end()) == shape);
            CHECK(back->bytes().size() == view->size_bytes());
            if (view->size_bytes() != 0) CHECK(back->bytes().data() == view->bytes().data());
            CHECK(back->view().size_bytes() == view->size_bytes());
            CHECK(gone == 0);
            lent = sf::failure{.code = sf::errc::canceled};
            CHECK(gone == 1);
        }
}

TEST_CASE(
    "dlpack: a tensor in a device's memory is exported with that device, and refused by the "
    "import") {
    const extents shape{2, 3};
    // never read
    auto* const address = reinterpret_cast<const std::byte*>(std::uintptr_t{0x7000'0000});
    const auto view = sf::tensor_view::of(sf::dtype::u8, shape, {address, 6});
    REQUIRE(view);
    const auto lent =
        dlpack::lend(*view, std::shared_ptr<int>{}, {.is_writable = true, .device = {2, 1}});
    REQUIRE(lent);
    CHECK((*lent)->dl_tensor.device.device_type == 2);
    CHECK((*lent)->dl_tensor.device.device_id == 1);
    CHECK((*lent)->dl_tensor.data == address);
    const auto borrowed = dlpack::borrow(**lent);
    REQUIRE_FALSE(borrowed);
    CHECK(borrowed.error().code == sf::errc::not_resident);
}

TEST_CASE("dlpack: strides are row-major without gaps, and a scalar has none" *
          doctest::skip(is_big_endian)) {
    const auto bytes = counting(4 * 24);
    const extents shape{2, 3, 4};
    const auto view = sf::tensor_view::of(sf::dtype::i32, shape, bytes);
    const auto lent = dlpack::lend(*view, std::shared_ptr<int>{});
    REQUIRE(lent);
    CHECK((*lent)->dl_tensor.strides[0] == 12);
    CHECK((*lent)->dl_tensor.strides[1] == 4);
    CHECK((*lent)->dl_tensor.strides[2] == 1);

    const auto scalar = sf::tensor_view::of(sf::dtype::i32, {}, std::span{bytes}.first(4));
    const auto lent_scalar = dlpack::lend(*scalar, std::shared_ptr<int>{});
    REQUIRE(lent_scalar);
    CHECK((*lent_scalar)->dl_tensor.ndim == 0);
    const auto back = dlpack::borrow(**lent_scalar);
    REQUIRE(back);
    CHECK(back->bytes().size() == 4);
    CHECK(back->shape().empty());
}

TEST_CASE(
    "dlpack: a versioned tensor says 1.1 and is read-only, unless it is exported for writing") {
    const auto bytes = counting(4);
    const extents shape{4};
    const auto view = sf::tensor_view::of(sf::dtype::u8, shape, bytes);
    for (const bool is_writable : {false, true}) {
        const auto lent = dlpack::lend(*view, std::shared_ptr<int>{}, {.is_writable = is_writable});
        REQUIRE(lent);
        CHECK((*lent)->version.major == 1);
        CHECK((*lent)->version.minor == 1);
        CHECK((*lent)->flags == (is_writable ? 0 : 1));
        const auto back = dlpack::borrow(**lent);
        REQUIRE(back);
        CHECK(back->is_read_only() == !is_writable);
        CHECK(back->writable_bytes().size() == (is_writable ? 4 : 0));
    }
}

TEST_CASE("dlpack: what cannot be exported is refused, and its owner is untouched" *
          doctest::skip(is_big_endian)) {
    alignas(64) static const std::byte bytes[64]{};
    const auto refusal = [&](sf::dtype type, const extents& shape, std::size_t offset,
                             const dlpack::lend_options& options = {}) {
        int gone = 0;
        {
            owner held{{}, gone};
            const auto view = sf::tensor_view::of(
                type, shape,
                std::span{bytes}.subspan(offset, static_cast<std::size_t>(size_of(type, shape))));
            REQUIRE(view);
            const auto lent = dlpack::lend(*view, std::move(held), options);
            REQUIRE_FALSE(lent);
            CHECK(held.gone == &gone);
            CHECK(gone == 0);
            return lent.error().code;
        }
    };
    CHECK(refusal(sf::dtype::f32, {2}, 2) == sf::errc::misaligned);
    CHECK(refusal(sf::dtype::bf16, {2}, 1) == sf::errc::misaligned);
    CHECK(refusal(sf::dtype::c64, {2}, 2) == sf::errc::misaligned);
    CHECK(refusal(sf::dtype::u8, {2}, 32, {.alignment_bytes = 64}) == sf::errc::misaligned);
    CHECK(refusal(sf::dtype::f4, {2, 3}, 0) == sf::errc::splits_block);
    CHECK(refusal(sf::dtype::u8, {0, std::uint64_t{1} << 63}, 0) == sf::errc::size_overflow);

    int gone = 0;
    owner held{{}, gone};
    // a scalar by its shape, without bytes
    const auto never_made = dlpack::lend(sf::tensor_view{}, std::move(held));
    REQUIRE_FALSE(never_made);
    CHECK(never_made.error().code == sf::errc::wrong_buffer_size);
    CHECK(held.gone == &gone);
}

TEST_CASE("dlpack: a view's shape may be stored in an owner that moves" *
          doctest::skip(is_big_endian)) {
    struct whole {
        explicit whole(std::vector<std::byte> of) : bytes{std::move(of)} {}
        whole(whole&& other) noexcept
            : bytes{std::move(other.bytes)}, shape{other.shape[0], other.shape[1]} {
            other.shape[0] = other.shape[1] = 0;
        }
        std::vector<std::byte> bytes;
        std::uint64_t shape[2] = {2, 3};
    };
    whole held{counting(6)};
    const auto view = sf::tensor_view::of(sf::dtype::u8, held.shape, held.bytes);
    REQUIRE(view);
    const auto lent = dlpack::lend(*view, std::move(held));
    REQUIRE(lent);
    const dlpack::tensor& of = (*lent)->dl_tensor;
    CHECK(of.shape[0] == 2);
    CHECK(of.shape[1] == 3);
    CHECK(of.strides[0] == 3);
}

TEST_CASE(
    "dlpack: complex numbers need the alignment of their parts, and tensors without elements "
    "need none" *
    doctest::skip(is_big_endian)) {
    alignas(64) static const std::byte bytes[64]{};
    const extents two{2}, none{0};
    CHECK(dlpack::lend(*sf::tensor_view::of(sf::dtype::c64, two, std::span{bytes}.subspan(4, 16)),
                       std::shared_ptr<int>{}));
    const auto without =
        dlpack::lend(*sf::tensor_view::of(sf::dtype::f64, none, std::span{bytes}.subspan(1, 0)),
                     std::shared_ptr<int>{});
    REQUIRE(without);
    CHECK((*without)->dl_tensor.data == nullptr);
}

TEST_CASE("dlpack: a checkpoint that is moved into a tensor lives as long as the tensor" *
          doctest::skip(is_big_endian)) {
    const support::temporary_directory directory;
    support::write_tensor_file(directory.path() / "model.safetensors",
                               {support::bf16("a", {2, 3}), support::u8("b", {5})});
    auto checkpoint = sf::checkpoint::open(directory.string());
    REQUIRE(checkpoint);
    const auto view = checkpoint->find("a");
    REQUIRE(view);
    const auto lent = dlpack::lend(*view, std::move(*checkpoint));
    REQUIRE(lent);
    const auto back = dlpack::borrow(**lent);
    REQUIRE(back);
    CHECK(support::string_of(back->bytes()) == support::bf16("a", {2, 3}).data);
}

TEST_CASE(
    "dlpack: the last of several tensors that share an owner frees it; the receiver of a "
    "tensor frees the tensor") {
    int gone = 0;
    auto shared = std::make_shared<owner>(counting(8), gone);
    const extents shape{8};
    const auto view = sf::tensor_view::of(sf::dtype::u8, shape, shared->bytes);
    auto first = std::move(dlpack::lend(*view, std::shared_ptr{shared})).value();
    auto second = std::move(dlpack::lend<legacy>(*view, std::shared_ptr{shared})).value();
    shared.reset();
    versioned* const handed_on = first.release();
    CHECK_FALSE(first);
    first = {};
    second = {};
    CHECK(gone == 0);
    {
        const dlpack::handle<versioned> taken{handed_on};
    }
    CHECK(gone == 1);
}

namespace {

// A framework's tensor with two rows of three; tests corrupt it.
struct foreign {
    alignas(8) std::byte data[64]{};
    std::int64_t shape[3]{2, 3, 1}, strides[3]{3, 1, 1};
    versioned managed{
        {1, 3}, nullptr, nullptr, 0, {data, {1, 0}, 2, {2, 32, 1}, shape, strides, 0}};

    sf::errc refusal() {
        const auto borrowed = dlpack::borrow(managed);
        REQUIRE_FALSE(borrowed);
        CHECK_FALSE(borrowed.error().message().empty());
        return borrowed.error().code;
    }
};

}  // namespace

TEST_CASE("dlpack: a framework's tensor is imported without a copy, byte_offset included" *
          doctest::skip(is_big_endian)) {
    foreign tensor;
    tensor.managed.dl_tensor.byte_offset = 20;
    const auto borrowed = dlpack::borrow(tensor.managed);
    REQUIRE(borrowed);
    CHECK(borrowed->bytes().data() == tensor.data + 20);
    CHECK(borrowed->bytes().size() == 24);
    CHECK_FALSE(borrowed->is_read_only());

    tensor.managed.dl_tensor.strides = nullptr;  // as before DLPack 1.2
    CHECK(dlpack::borrow(tensor.managed));
    tensor.managed.dl_tensor.device.device_type = 3;  // pinned by CUDA
    CHECK(dlpack::borrow(tensor.managed));
}

TEST_CASE("dlpack: strides are ignored for extents of 1 and for tensors without elements" *
          doctest::skip(is_big_endian)) {
    foreign tensor;
    tensor.managed.dl_tensor.ndim = 3;
    tensor.strides[2] = 77;
    CHECK(dlpack::borrow(tensor.managed));
    tensor.shape[0] = 0;
    tensor.strides[0] = -5;
    tensor.managed.dl_tensor.data = nullptr;
    const auto borrowed = dlpack::borrow(tensor.managed);
    REQUIRE(borrowed);
    CHECK(borrowed->bytes().empty());
}

TEST_CASE("dlpack: F4 is accepted in pairs or single elements, but not padded") {
    foreign tensor;
    tensor.managed.dl_tensor.dtype = {17, 4, 2};
    auto pairs = dlpack::borrow(tensor.managed);
    REQUIRE(pairs);
    CHECK(pairs->shape()[1] == 6);
    CHECK(pairs->bytes().size() == 6);
    tensor.managed.dl_tensor.dtype = {17, 4, 1};
    auto singles = dlpack::borrow(tensor.managed);
    REQUIRE(singles);
    CHECK(singles->shape()[1] == 3);
    CHECK(singles->bytes().size() == 3);
    tensor.managed.flags = dlpack::padded_flag;
    CHECK(tensor.refusal() == sf::errc::unknown_dtype);
    tensor.managed.dl_tensor.dtype = {17, 4, 2};
    tensor.managed.dl_tensor.ndim = 0;
    tensor.managed.flags = 0;
    CHECK(tensor.refusal() == sf::errc::unknown_dtype);
}

TEST_CASE("dlpack: what cannot be imported is refused" * doctest::skip(is_big_endian)) {
    const auto refusal = [](auto spoil) {
        foreign tensor;
        spoil(tensor);
        return tensor.refusal();
    };
    CHECK(refusal([](foreign& t) { t.managed.version.major = 2; }) == sf::errc::out_of_range);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.device.device_type = 2; }) ==
          sf::errc::not_resident);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.dtype = {5, 128, 1}; }) ==
          sf::errc::unknown_dtype);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.dtype = {2, 32, 4}; }) ==
          sf::errc::unknown_dtype);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.ndim = -1; }) == sf::errc::out_of_range);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.shape = nullptr; }) ==
          sf::errc::not_resident);
    CHECK(refusal([](foreign& t) { t.shape[1] = -3; }) == sf::errc::out_of_range);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.data = nullptr; }) ==
          sf::errc::not_resident);
    CHECK(refusal([](foreign& t) { std::swap(t.strides[0], t.strides[1]); }) ==
          sf::errc::not_resident);
    CHECK(refusal([](foreign& t) { t.strides[1] = 0; }) == sf::errc::not_resident);
    CHECK(refusal([](foreign& t) { t.strides[0] = 4; }) == sf::errc::not_resident);
    CHECK(refusal([](foreign& t) { t.shape[0] = t.shape[1] = INT64_MAX; }) ==
          sf::errc::size_overflow);
    CHECK(refusal([](foreign& t) { t.managed.dl_tensor.byte_offset = ~std::uint64_t{0}; }) ==
          sf::errc::size_overflow);
    CHECK(refusal([](foreign& t) {
              // the tensor begins inside the address space
              t.managed.dl_tensor.byte_offset =
                  UINTPTR_MAX - reinterpret_cast<std::uintptr_t>(t.data) - 3;
          }) == sf::errc::size_overflow);
    CHECK(refusal([](foreign& t) {
              t.managed.dl_tensor.dtype = {17, 4, 1};
              t.shape[0] = 1;
          }) == sf::errc::partial_byte);
}

TEST_CASE(
    "dlpack: frameworks' tensors are fused into a framework's tensor, but not into a read-only "
    "one" *
    doctest::skip(is_big_endian)) {
    // Two experts, I = 2, H = 2; each matrix belongs to a framework.
    std::vector<std::unique_ptr<foreign>> owned;
    std::vector<sf::dlpack::borrowed_tensor> borrowed;
    std::vector<std::string> names;
    std::string expected;
    for (int expert = 0; expert < 2; ++expert)
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
            names.push_back("mlp.experts." + std::to_string(expert) + "." + part + ".weight");
            auto& tensor = *owned.emplace_back(std::make_unique<foreign>());
            const std::string pattern = support::pattern(names.back(), 16);
            std::memcpy(tensor.data, pattern.data(), 16);
            tensor.shape[1] = tensor.strides[0] = 2;
            if (part != "down_proj") expected += pattern;
            auto found = dlpack::borrow(tensor.managed);
            REQUIRE(found);
            borrowed.push_back(std::move(*found));
        }
    std::vector<sf::named_tensor> named;
    for (std::size_t i = 0; i < names.size(); ++i) named.push_back({names[i], borrowed[i].view()});
    const sf::tensor_list set{named};
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, "mlp.experts");
    REQUIRE(plan);

    foreign destination;
    destination.managed.dl_tensor.ndim = 3;
    destination.shape[0] = 2, destination.shape[1] = 4, destination.shape[2] = 2;
    destination.managed.dl_tensor.strides = nullptr;
    auto into = dlpack::borrow(destination.managed);
    REQUIRE(into);
    REQUIRE(sf::fuse(*plan, "gate_up_proj", *into));
    CHECK(support::string_of(into->bytes()) == expected);

    destination.managed.flags = dlpack::read_only_flag;
    auto read_only = dlpack::borrow(destination.managed);
    REQUIRE(read_only);
    const auto refused = sf::fuse(*plan, "gate_up_proj", *read_only);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == sf::errc::wrong_buffer_size);
}
