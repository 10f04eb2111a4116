// A header of somebody's that passes the library's objects on: it knows their names and nothing
// else of them.
#ifndef SAFEFUSE_TESTS_FORWARD_HPP
#define SAFEFUSE_TESTS_FORWARD_HPP

#include <safefuse/fwd.hpp>

namespace forward {

bool has_experts(const safefuse::checkpoint& checkpoint,
                 safefuse::result<safefuse::copy_plan>& plan);
safefuse::result<safefuse::tensor_view> first_of(const safefuse::tensor_file& file,
                                                 safefuse::errc otherwise);

}  // namespace forward

#endif
