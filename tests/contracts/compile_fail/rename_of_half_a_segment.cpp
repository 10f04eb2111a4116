#include <string_view>

#include <safefuse/models/transformers.hpp>

namespace sf = safefuse;

struct mine : sf::family<"mine", sf::layouts::per_expert, sf::layouts::gate_up_fused> {
#ifdef SAFEFUSE_FAIL
    static constexpr sf::rename_description renames[] = {sf::rename("ffn.", "mlp")};
#else
    static constexpr sf::rename_description renames[] = {sf::rename("ffn", "mlp")};
#endif
};

static_assert(sf::description_of<mine>.from != nullptr);
