#define DOCTEST_CONFIG_NO_SHORT_MACRO_NAMES  // PyTorch has its own CHECK
#include <named_tensors.hpp>
#include <torch.hpp>

#include <ATen/dlpack.h>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <safefuse/interop/dlpack.hpp>

#include <doctest/doctest.h>

#include "experts.hpp"

namespace sf = safefuse;

// Our DLPack structures, compared with those of PyTorch.
static_assert(DLPACK_MAJOR_VERSION == sf::dlpack::lent_version.major &&
              DLPACK_MINOR_VERSION >= sf::dlpack::lent_version.minor);
static_assert(sizeof(DLTensor) == sizeof(sf::dlpack::tensor) &&
              alignof(DLTensor) == alignof(sf::dlpack::tensor));
static_assert(offsetof(DLTensor, data) == offsetof(sf::dlpack::tensor, data) &&
              offsetof(DLTensor, device) == offsetof(sf::dlpack::tensor, device));
static_assert(offsetof(DLTensor, ndim) == offsetof(sf::dlpack::tensor, ndim) &&
              offsetof(DLTensor, dtype) == offsetof(sf::dlpack::tensor, dtype));
static_assert(offsetof(DLTensor, shape) == offsetof(sf::dlpack::tensor, shape) &&
              offsetof(DLTensor, strides) == offsetof(sf::dlpack::tensor, strides));
static_assert(offsetof(DLTensor, byte_offset) == offsetof(sf::dlpack::tensor, byte_offset));
static_assert(sizeof(DLDataType) == sizeof(sf::dlpack::data_type) &&
              offsetof(DLDataType, bits) == offsetof(sf::dlpack::data_type, bits) &&
              offsetof(DLDataType, lanes) == offsetof(sf::dlpack::data_type, lanes));
static_assert(sizeof(DLDevice) == sizeof(sf::dlpack::device) &&
              offsetof(DLDevice, device_id) == offsetof(sf::dlpack::device, device_id));
static_assert(sizeof(DLPackVersion) == sizeof(sf::dlpack::version) &&
              offsetof(DLPackVersion, minor) == offsetof(sf::dlpack::version, minor));
static_assert(sizeof(DLManagedTensor) == sizeof(sf::dlpack::managed_tensor));
static_assert(offsetof(DLManagedTensor, manager_ctx) ==
              offsetof(sf::dlpack::managed_tensor, manager_ctx));
static_assert(offsetof(DLManagedTensor, deleter) == offsetof(sf::dlpack::managed_tensor, deleter));
static_assert(sizeof(DLManagedTensorVersioned) == sizeof(sf::dlpack::managed_tensor_versioned));
static_assert(offsetof(DLManagedTensorVersioned, manager_ctx) ==
              offsetof(sf::dlpack::managed_tensor_versioned, manager_ctx));
static_assert(offsetof(DLManagedTensorVersioned, deleter) ==
              offsetof(sf::dlpack::managed_tensor_versioned, deleter));
static_assert(offsetof(DLManagedTensorVersioned, flags) ==
              offsetof(sf::dlpack::managed_tensor_versioned, flags));
static_assert(offsetof(DLManagedTensorVersioned, dl_tensor) ==
              offsetof(sf::dlpack::managed_tensor_versioned, dl_tensor));
static_assert(DLPACK_FLAG_BITMASK_READ_ONLY == sf::dlpack::read_only_flag &&
              DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED == sf::dlpack::padded_flag);
static_assert(kDLCPU == 1 && kDLCUDAHost == 3 && kDLROCMHost == 11);

namespace {

std::vector<std::byte> bytes_of(const at::Tensor& tensor) {
    const auto* const first = static_cast<const std::byte*>(tensor.const_data_ptr());
    return {first, first + tensor.nbytes()};
}

at::Tensor tensor_at(const std::shared_ptr<const sf::checkpoint>& checkpoint,
                     const std::string& name) {
    const auto view = checkpoint->find(name);
    DOCTEST_REQUIRE(view);
    auto tensor = adapt::torch_tensor(*view, checkpoint);
    DOCTEST_REQUIRE(tensor);
    return std::move(*tensor);
}

std::shared_ptr<const sf::checkpoint> open(const support::temporary_directory& directory) {
    auto checkpoint = sf::checkpoint::open(directory.string());
    DOCTEST_REQUIRE(checkpoint);
    return std::make_shared<const sf::checkpoint>(std::move(*checkpoint));
}

// The experts fused by PyTorch itself.
at::Tensor gate_up_by_torch(const std::shared_ptr<const sf::checkpoint>& checkpoint) {
    std::vector<at::Tensor> rows;
    for (int e = 0; e < experts::count; ++e)
        rows.push_back(at::cat({tensor_at(checkpoint, experts::name(e, "gate")),
                                tensor_at(checkpoint, experts::name(e, "up"))},
                               0));
    return at::stack(rows);
}

}  // namespace

DOCTEST_TEST_CASE("torch: fusing gives what PyTorch cats and stacks itself") {
    for (const auto type : {sf::dtype::f32, sf::dtype::bf16, sf::dtype::f64}) {
        DOCTEST_CAPTURE(sf::name(type));
        const support::temporary_directory directory;
        experts::write(directory, type);
        const auto checkpoint = open(directory);
        const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, experts::scope);
        DOCTEST_REQUIRE(plan);
        at::Tensor gate_up = at::zeros({experts::count, 2 * experts::intermediate, experts::hidden},
                                       adapt::torch_types[static_cast<std::size_t>(type)]);
        DOCTEST_REQUIRE(sf::fuse(*plan, "gate_up_proj", gate_up));
        DOCTEST_CHECK(at::equal(gate_up, gate_up_by_torch(checkpoint)));
        DOCTEST_CHECK(gate_up[2][0][1].item<double>() == 2 * 72 + 1 + 1);

        at::Tensor transposed =
            at::zeros({experts::count, experts::hidden, 2 * experts::intermediate},
                      gate_up.options())
                .transpose(1, 2);
        DOCTEST_CHECK(sf::fuse(*plan, "gate_up_proj", transposed).error().code ==
                      sf::errc::wrong_buffer_size);
        at::Tensor flat = at::zeros({experts::count * 2 * experts::intermediate, experts::hidden},
                                    gate_up.options());
        DOCTEST_CHECK(sf::fuse(*plan, "gate_up_proj", flat).error().code ==
                      sf::errc::shape_mismatch);
        at::Tensor complex = at::zeros(gate_up.sizes(), at::kComplexDouble);
        DOCTEST_CHECK(sf::fuse(*plan, "gate_up_proj", complex).error().code ==
                      sf::errc::dtype_mismatch);
    }
}

DOCTEST_TEST_CASE("torch: plans are made from a map of tensors, there and back") {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype::bf16);
    const auto checkpoint = open(directory);
    std::map<std::string, at::Tensor> tensors;
    for (int e = 0; e < experts::count; ++e)
        for (const char* part : {"gate", "up", "down"})
            tensors[experts::name(e, part)] = tensor_at(checkpoint, experts::name(e, part)).clone();
    const auto named = adapt::named_tensors::of(tensors);
    DOCTEST_REQUIRE(named);
    const auto set = named->list();
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, experts::scope);
    DOCTEST_REQUIRE(plan);
    std::map<std::string, at::Tensor> fused;
    at::Tensor& gate_up = fused[std::string{experts::scope} + ".gate_up_proj"];
    at::Tensor& down = fused[std::string{experts::scope} + ".down_proj"];
    gate_up =
        at::zeros({experts::count, 2 * experts::intermediate, experts::hidden}, at::kBFloat16);
    down = at::zeros({experts::count, experts::hidden, experts::intermediate}, at::kBFloat16);
    DOCTEST_REQUIRE(sf::fuse(*plan, "gate_up_proj", gate_up));
    DOCTEST_REQUIRE(sf::fuse(*plan, "down_proj", down));
    DOCTEST_CHECK(at::equal(gate_up, gate_up_by_torch(checkpoint)));

    const auto fused_named = adapt::named_tensors::of(fused);
    DOCTEST_REQUIRE(fused_named);
    const auto fused_set = fused_named->list();
    const auto back =
        sf::plan<sf::families::qwen2_moe>(fused_set, experts::scope, sf::direction::inverse);
    DOCTEST_REQUIRE(back);
    for (const auto& [name, tensor] : tensors) {
        at::Tensor again = at::zeros_like(tensor);
        DOCTEST_REQUIRE(
            sf::fuse(*back, std::string_view{name}.substr(std::strlen(experts::scope) + 1), again));
        DOCTEST_CHECK(at::equal(again, tensor));
    }

    tensors.begin()->second = tensors.begin()->second.transpose(0, 1);
    const auto refused = adapt::named_tensors::of(tensors);
    DOCTEST_REQUIRE_FALSE(refused);
    DOCTEST_CHECK(refused.error().code == sf::errc::wrong_buffer_size);
    DOCTEST_CHECK(refused.error().tensor == std::string_view{tensors.begin()->first});
}

DOCTEST_TEST_CASE("torch: the mapping stays as long as the last tensor that shares it") {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype::f32);
    std::weak_ptr<const sf::checkpoint> alive;
    at::Tensor kept;
    {
        const auto checkpoint = open(directory);
        alive = checkpoint;
        kept = tensor_at(checkpoint, experts::name(1, "up"))
                   .select(0, 2)
                   .narrow(0, 1, 3);  // a view of a view
        DOCTEST_CHECK(tensor_at(checkpoint, experts::name(0, "gate")).data_ptr() ==
                      checkpoint->find(experts::name(0, "gate"))->bytes().data());
    }
    DOCTEST_CHECK_FALSE(alive.expired());
    DOCTEST_CHECK(kept[0].item<float>() == 72 + 24 + 2 * 6 + 1 + 1);
    kept = at::Tensor{};
    DOCTEST_CHECK(alive.expired());
}

DOCTEST_TEST_CASE(
    "torch: 20 of the 22 dtypes are known, by name, and a tensor of each has the same bytes; F6 "
    "is refused") {
    const std::map<std::string_view, std::string_view> known{
        {"BOOL", "Bool"},
        {"F4", "Float4_e2m1fn_x2"},
        {"U8", "Byte"},
        {"I8", "Char"},
        {"F8_E5M2", "Float8_e5m2"},
        {"F8_E4M3", "Float8_e4m3fn"},
        {"F8_E8M0", "Float8_e8m0fnu"},
        {"F8_E4M3FNUZ", "Float8_e4m3fnuz"},
        {"F8_E5M2FNUZ", "Float8_e5m2fnuz"},
        {"I16", "Short"},
        {"U16", "UInt16"},
        {"F16", "Half"},
        {"BF16", "BFloat16"},
        {"I32", "Int"},
        {"U32", "UInt32"},
        {"F32", "Float"},
        {"C64", "ComplexFloat"},
        {"F64", "Double"},
        {"I64", "Long"},
        {"U64", "UInt64"},
    };
    std::size_t count = 0;
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        const experts::sample sample{static_cast<sf::dtype>(i)};
        DOCTEST_CAPTURE(sf::name(sample.view.type()));
        auto tensor = adapt::torch_tensor(sample.view, nullptr);
        if (sf::bits(sample.view.type()) == 6) {
            DOCTEST_REQUIRE_FALSE(tensor);
            DOCTEST_CHECK(tensor.error().code == sf::errc::unknown_dtype);
            continue;
        }
        ++count;
        DOCTEST_REQUIRE(tensor);
        DOCTEST_CHECK(std::string_view{c10::toString(tensor->scalar_type())} ==
                      known.at(sf::name(sample.view.type())));
        DOCTEST_CHECK(tensor->data_ptr() == sample.bytes.data());
        DOCTEST_CHECK((bytes_of(*tensor) == sample.bytes));
        DOCTEST_CHECK(sf::tensor_traits<at::Tensor>::type(*tensor) == sample.view.type());
        DOCTEST_CHECK(sf::tensor_traits<at::Tensor>::shape(*tensor) == sample.extents);
        DOCTEST_CHECK(sf::tensor_traits<at::Tensor>::bytes(*tensor).size() == sample.bytes.size());

        // Through DLPack, with PyTorch's own structures.
        auto lent = sf::dlpack::lend<DLManagedTensorVersioned>(sample.view, std::shared_ptr<int>{});
        DOCTEST_REQUIRE(lent);
        const auto borrowed = sf::dlpack::borrow(**lent);
        DOCTEST_REQUIRE(borrowed);
        DOCTEST_CHECK(borrowed->type() == sample.view.type());
    }
    DOCTEST_CHECK(count == known.size());
    DOCTEST_CHECK(count == 20);
}

DOCTEST_TEST_CASE("torch: misaligned elements and odd rows of F4 are refused") {
    alignas(8) static const std::byte bytes[64]{};
    const std::vector<std::uint64_t> three{3}, none;
    const auto refusal = [&](sf::dtype type, const std::vector<std::uint64_t>& shape,
                             std::size_t from, std::size_t size) {
        const auto view = sf::tensor_view::of(type, shape, std::span{bytes}.subspan(from, size));
        DOCTEST_REQUIRE(view);
        const auto tensor = adapt::torch_tensor(*view, nullptr);
        DOCTEST_REQUIRE_FALSE(tensor);
        return tensor.error().code;
    };
    DOCTEST_CHECK(refusal(sf::dtype::f32, three, 2, 12) == sf::errc::misaligned);
    const std::vector<std::uint64_t> odd{2, 3};
    DOCTEST_CHECK(refusal(sf::dtype::f4, odd, 0, 3) == sf::errc::splits_block);
    const auto scalar = sf::tensor_view::of(sf::dtype::f32, none, std::span{bytes}.first(4));
    DOCTEST_CHECK(adapt::torch_tensor(*scalar, nullptr)->dim() == 0);
}
