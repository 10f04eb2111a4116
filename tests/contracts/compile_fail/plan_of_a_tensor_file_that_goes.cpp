#include <utility>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/tensor_file.hpp>

namespace sf = safefuse;

bool planned(sf::result<sf::tensor_file> file) {
#ifdef SAFEFUSE_FAIL
    return sf::plan<sf::families::qwen2_moe>(*std::move(file), "model.layers.0.mlp.experts")
        .has_value();
#else
    return sf::plan<sf::families::qwen2_moe>(*file, "model.layers.0.mlp.experts").has_value();
#endif
}
