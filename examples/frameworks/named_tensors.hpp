// Tensors of any framework by name, as a tensor set for plans. Copy it together with the
// framework's own header.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_traits.hpp>

namespace adapt {

/// A tensor set made from a map (std::map<std::string, Tensor>, a vector of pairs, ...) whose
/// tensors have tensor_traits.
///   lifetime  the map's names and the tensors' memory must outlive it
class named_tensors {
public:
    template <class Map>
    static safefuse::result<named_tensors> of(Map& tensors) {
        using tensor = std::remove_cvref_t<decltype(tensors.begin()->second)>;
        named_tensors made;
        for (auto& [name, each] : tensors) {
            const auto& shape = safefuse::tensor_traits<tensor>::shape(each);
            const safefuse::shape_view extents{shape};
            made.shapes_.emplace_back(extents.begin(), extents.end());
            const auto view = safefuse::view_of(each, made.shapes_.back());
            if (!view) {
                safefuse::failure why = view.error();
                why.tensor = safefuse::text{std::string_view{name}};
                return why;
            }
            made.named_.push_back({name, *view});
        }
        return made;
    }

    /// The argument for plan(). It lives as long as this object, wherever this is moved.
    [[nodiscard]] safefuse::tensor_list list() const& noexcept {
        return safefuse::tensor_list{named_};
    }
    safefuse::tensor_list list() const&& = delete;

private:
    std::vector<std::vector<std::uint64_t>> shapes_;
    std::vector<safefuse::named_tensor> named_;
};

}  // namespace adapt
