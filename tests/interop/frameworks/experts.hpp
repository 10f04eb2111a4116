// A checkpoint with one layer of experts, for the tests of frameworks' adapters.
#ifndef SAFEFUSE_TESTS_FRAMEWORKS_EXPERTS_HPP
#define SAFEFUSE_TESTS_FRAMEWORKS_EXPERTS_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <safefuse/models/engines.hpp>
#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/support.hpp"

namespace experts {

inline constexpr int count = 3, intermediate = 4, hidden = 6;
inline constexpr const char* scope = "model.layers.0.mlp.experts";

inline std::string name(int expert, const std::string& part) {
    return std::string{scope} + '.' + std::to_string(expert) + '.' + part + "_proj.weight";
}

/// Elements that no framework takes for NaN or confuses: small whole numbers in the encoding of the
/// dtype.
inline std::string elements(safefuse::dtype type, std::size_t element_count, int first) {
    std::string bytes(element_count * safefuse::bits(type) / 8, '\0');
    for (std::size_t i = 0; i < element_count; ++i) {
        const int value = first + static_cast<int>(i);
        const auto put = [&](auto as) {
            std::memcpy(bytes.data() + i * sizeof as, &as, sizeof as);
        };
        switch (type) {
        case safefuse::dtype::f32: put(static_cast<float>(value)); break;
        case safefuse::dtype::f64: put(static_cast<double>(value)); break;
        case safefuse::dtype::bf16: {  // exact up to 256
            const float exact = static_cast<float>(value);
            std::uint32_t wide = 0;
            std::memcpy(&wide, &exact, sizeof wide);
            put(static_cast<std::uint16_t>(wide >> 16));
            break;
        }
        default: put(static_cast<std::uint8_t>(value)); break;
        }
    }
    return bytes;
}

inline void write(const support::temporary_directory& directory, safefuse::dtype type) {
    std::vector<support::tensor> tensors;
    int first = 1;
    for (int expert = 0; expert < count; ++expert)
        for (const std::string part : {"gate", "up", "down"}) {
            const std::vector<std::uint64_t> shape =
                part == "down" ? std::vector<std::uint64_t>{hidden, intermediate}
                               : std::vector<std::uint64_t>{intermediate, hidden};
            tensors.push_back({name(expert, part), std::string{safefuse::name(type)}, shape,
                               elements(type, intermediate * hidden, first)});
            first += intermediate * hidden;
        }
    support::write_tensor_file(directory.path() / "model.safetensors", tensors);
}

/// A tensor of any dtype: two rows, with the bytes that it needs.
struct sample {
    explicit sample(safefuse::dtype type) : extents{2, 8}, bytes(16 * safefuse::bits(type) / 8) {
        for (std::size_t i = 0; i < bytes.size(); ++i)
            bytes[i] = type == safefuse::dtype::boolean ? std::byte{i % 3 == 0}
                                                        : static_cast<std::byte>(i * 5 + 1);
        view = safefuse::tensor_view::of(type, extents, bytes).value_or(safefuse::tensor_view{});
    }
    sample(const sample&) = delete;
    std::vector<std::uint64_t> extents;
    std::vector<std::byte> bytes;
    safefuse::tensor_view view;
};

}  // namespace experts

#endif
